// What an exception of any kind means to the caller.
#include "core.h"

#include <new>
#include <stdexcept>
#include <system_error>

namespace comface {

Error currentError() noexcept {
  try {
    try {
      throw;
    } catch (const Error& e) {
      return e;
    } catch (const std::bad_alloc&) {
      return Error(Code::outOfMemory, "Out of memory.");
    } catch (const std::length_error&) {  // more than a vector can ever hold
      return Error(Code::outOfMemory, "Out of memory.");
    } catch (const std::system_error& e) {  // no more threads
      return Error(Code::outOfMemory, std::string("The system refused a resource: ") + e.what());
    } catch (const std::exception& e) {
      return Error(Code::deviceFailed, e.what());
    } catch (...) {
      return Error(Code::deviceFailed, "An unknown native failure.");
    }
  } catch (...) {
    return Error(Code::outOfMemory, "Out of memory.");  // short enough for std::string to hold it without memory
  }
}

}  // namespace comface
