// The renderer's door: the names of its attributes, and the copy of faces/ for this processor. CMake compiles all of
// faces/ once for each instruction set, with COMFACE_ISA as its namespace; pictures are the same to the last bit.
#include "faces/face.h"

namespace comface::faces {

const char* const kAttributeNames[kAttributeCount] = {"weight",
                                                      "age",
                                                      "smile",
                                                      "5_o_Clock_Shadow",
                                                      "Arched_Eyebrows",
                                                      "Attractive",
                                                      "Bags_Under_Eyes",
                                                      "Bald",
                                                      "Bangs",
                                                      "Big_Lips",
                                                      "Big_Nose",
                                                      "Black_Hair",
                                                      "Blond_Hair",
                                                      "Blurry",
                                                      "Brown_Hair",
                                                      "Bushy_Eyebrows",
                                                      "Chubby",
                                                      "Double_Chin",
                                                      "Eyeglasses",
                                                      "Goatee",
                                                      "Gray_Hair",
                                                      "Heavy_Makeup",
                                                      "High_Cheekbones",
                                                      "Male",
                                                      "Mouth_Slightly_Open",
                                                      "Mustache",
                                                      "Narrow_Eyes",
                                                      "No_Beard",
                                                      "Oval_Face",
                                                      "Pale_Skin",
                                                      "Pointy_Nose",
                                                      "Receding_Hairline",
                                                      "Rosy_Cheeks",
                                                      "Sideburns",
                                                      "Smiling",
                                                      "Straight_Hair",
                                                      "Wavy_Hair",
                                                      "Wearing_Earrings",
                                                      "Wearing_Hat",
                                                      "Wearing_Lipstick",
                                                      "Wearing_Necklace",
                                                      "Wearing_Necktie",
                                                      "Young"};

void render(const Shot& shot, int size, uint8_t* rgb) {
  static const auto draw = __builtin_cpu_supports("avx2") ? avx2::render : baseline::render;
  draw(shot, size, rgb);
}

void locate(const Shot& shot, int size, float* points) {
  static const auto find = __builtin_cpu_supports("avx2") ? avx2::locate : baseline::locate;
  find(shot, size, points);
}

}  // namespace comface::faces
