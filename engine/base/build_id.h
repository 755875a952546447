#ifndef ATTENDANT_ENGINE_BASE_BUILD_ID_H_
#define ATTENDANT_ENGINE_BASE_BUILD_ID_H_

#include <string>

namespace attendant::engine {

// The build ID that the linker gave this program, in hexadecimal: another for any other code. Empty
// if it gave none.
std::string BuildId();

}  // namespace attendant::engine

#endif  // ATTENDANT_ENGINE_BASE_BUILD_ID_H_
