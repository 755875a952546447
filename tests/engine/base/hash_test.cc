#include "engine/base/hash.h"

#include <string>

#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

// Values that other implementations of XXH64 give.
TEST(HashTest, IsXxh64) {
  EXPECT_EQ(Hash64(""), 0xef46db3751d8e999);
  EXPECT_EQ(Hash64("a"), 0xd24ec4f1a98c6e5b);
  EXPECT_EQ(Hash64("as"), 0x1c330fb2d66be179);
  EXPECT_EQ(Hash64("asd"), 0x631c37ce72a97393);
  EXPECT_EQ(Hash64("asdf"), 0x415872f599cea71e);
  EXPECT_EQ(Hash64("Call me Ishmael. Some years ago--never mind how long precisely-"),
            0x02a2e85470d6fd96);
}

TEST(HashTest, EveryBitCounts) {
  const std::string text(100, 'x');
  for (size_t size = 1; size < text.size(); ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::string changed = text.substr(0, size);
      changed[at] ^= 1;
      EXPECT_NE(Hash64(changed), Hash64(text.substr(0, size)));
    }
    EXPECT_NE(Hash64(text.substr(0, size)), Hash64(text.substr(0, size - 1)));
  }
}

}  // namespace
}  // namespace attendant::engine
