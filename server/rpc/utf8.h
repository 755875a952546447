#ifndef ATTENDANT_SERVER_RPC_UTF8_H_
#define ATTENDANT_SERVER_RPC_UTF8_H_

#include <string>

#include "absl/strings/string_view.h"

namespace attendant::server {

// How many bytes at the start of `text` are whole characters of UTF-8 (RFC 3629: shortest form, no
// surrogates).
size_t ValidUtf8Prefix(absl::string_view text);

// `text` with what is not UTF-8 in it replaced by U+FFFD: a string field may hold nothing else.
std::string ToValidUtf8(std::string text);

}  // namespace attendant::server

#endif  // ATTENDANT_SERVER_RPC_UTF8_H_
