// One photograph: pose, expression, lights, backdrop and camera. Nothing here depends on who is in the picture.
// The two capture domains differ in every family of numbers drawn by makeScene.
#pragma once

#include <cstdint>

#include "face.h"
#include "identity.h"
#include "raster.h"
#include "vec.h"

namespace comface::faces::COMFACE_ISA {

// Head space to view space: turn about the top of the neck, then shift.
struct Pose {
  Vec3 right, up, front;  // the head's axes in view space
  Vec3 pivot, offset;
  Vec3 turn(const Vec3& d) const { return right * d.x + up * d.y + front * d.z; }
  Vec3 place(const Vec3& p) const { return turn(p - pivot) + pivot + offset; }
};

struct Light {
  Vec3 toLight;  // view space, unit length
  Vec3 color;    // linear
  Vec3 half;     // between the light and the eye, unit length
};

struct Backdrop {
  int kind;  // 0 studio gradient, 1 wall and window blur
  Vec3 top, bottom;
  Vec3 spotColor[4];
  float spotX[4], spotY[4], spotSize[4];  // in picture widths
};

struct Camera {
  Vec3 balance;  // white balance gains
  float exposure, contrast, vignette;
  float blur;     // standard deviation, fractions of the picture width
  float sharpen;  // amount of edge overshoot
  float grain;    // standard deviation at mid gray, sRGB units of 255
  uint32_t grainKey;
};

struct Scene {
  Pose pose;
  Lens lens;
  Light key, fill, rim;
  Vec3 sky, ground;  // ambient from above and below
  Backdrop backdrop;
  Camera camera;
  float smile, open, squint, browLift, gazeX, gazeY;  // this moment's expression, added to the person's
};

Scene makeScene(const Shot& shot, int size);

// Pose and expression of the moment; of a video they drift around those of its photograph.
void holdStill(const Shot& shot, Scene& scene);
// How much of what moves a head from photograph to photograph moves it in this one.
float movesOf(const Shot& shot);

// The moment's expression on top of the person.
void applyExpression(Face& face, const Scene& scene);

// The person with every change and the moment's expression.
Face makeSitter(const Shot& shot, const Scene& scene);

// What a painter decides about points before light falls on them.
struct Finish {
  Vec3s albedo;
  Vec3s normal;     // view space, need not be unit length
  Lanes occlusion;  // 0..1
  Lanes gloss;      // strength of the highlight
  Lanes sharpness;  // 0 broad highlight .. 1 wet
  Lanes flesh;      // 1 lets red light bleed past the terminator
};

Vec3s light(const Scene& scene, const Place& at, const Finish& finish);

// Soft shadows of the key light: every corner of every surface is tested against a small depth map.
void castShadows(const Scene& scene, Surface* const* surfaces, int count);

void paintBackdrop(const Scene& scene, Raster& raster);

// Blur, balance, vignette, tone curve, grain; writes size x size x 3 bytes.
void develop(const Scene& scene, float extraBlur, Raster& raster, uint8_t* rgb);

}  // namespace comface::faces::COMFACE_ISA
