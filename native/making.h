// The functions that JavaScript makes pictures with: drawn faces, the averages of a generator's images, JPEG.
#pragma once
#include <napi.h>

namespace comface {

void exportPictures(Napi::Env env, Napi::Object exports);

}  // namespace comface
