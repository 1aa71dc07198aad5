// How the tests of the doubles count.
#pragma once
#include <string>

namespace comface::cuda::emulation {

void expect(bool holds, const std::string& what);
void expectStatus(int status, int expected, const std::string& what);

/** products.cc: cuBLASLt. */
void testProducts();

}  // namespace comface::cuda::emulation
