// The images of a generator as pictures: area averages of floats, where -1 is black and 1 is white.
#pragma once
#include <span>
#include <string>

#include "augment.h"

namespace comface {

/**
 * @param image 3 x edge x edge, R, G and B.
 * @param size edge of the picture, at most `edge`. A pixel is the mean of the image over its area, parts of pixels
 * by their share, then floor(127.5 mean + 128) from 0 to 255.
 * @param name of the picture, for the message. Throws invalidInput where a mean is not finite.
 */
Picture averaged(std::span<const float> image, int edge, int size, const std::string& name);

}  // namespace comface
