#include "engine/checkpoint/packed_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/log/check.h"
#include "absl/strings/str_cat.h"
#include "engine/base/file_descriptor.h"
#include "engine/base/hash.h"
#include "engine/base/status_macros.h"
#include "engine/checkpoint/packed_cache.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/test_data.h"

namespace attendant::engine {
namespace {

namespace fs = std::filesystem;
using ::attendant::testing::IsOk;
using ::attendant::testing::ReadFileOrDie;
using ::attendant::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::Not;

absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

PackedFile::NamedMatrix Matrix(std::string name, std::string layout, absl::string_view contents) {
  AlignedBuffer buffer(contents.size());
  std::memcpy(buffer.data(), contents.data(), contents.size());
  return {std::move(name), {std::move(layout), PackedBytes(std::move(buffer))}};
}

std::string Contents(const PackedFile::NamedMatrix& matrix) {
  const PackedBytes& bytes = matrix.matrix.bytes;
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size_bytes());
}

const PackedFile::Origin kOrigin = {{"checkpoint", "this one"}, {"dtype", "bf16"}};

std::vector<PackedFile::NamedMatrix> Matrices() {
  return {Matrix("query", "bf16 [3, 5]", "thirty bytes of a small matrix"), Matrix("none", "", ""),
          Matrix("down", "int4", std::string(9000, 'x'))};
}

// A folder of the test's own, removed behind it.
class PackedFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "packed_file_test.XXXXXX").string();
    CHECK(mkdtemp(name.data()) != nullptr);
    folder_ = name;
    path_ = folder_ / "model.packed";
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Write() {
    CHECK_OK(PackedFile::Write(path_, kOrigin, Matrices()));
    return ReadFileOrDie(path_);
  }
  void Overwrite(const std::string& contents) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << contents;
  }

  fs::path folder_, path_;
};

TEST_F(PackedFileTest, GivesBackWhatWasWritten) {
  Write();
  ASSERT_OK_AND_ASSIGN(const PackedFile file, PackedFile::Open(path_));
  EXPECT_EQ(file.origin(), kOrigin);
  const std::vector<PackedFile::NamedMatrix> matrices = Matrices();
  ASSERT_EQ(file.num_matrices(), matrices.size());
  for (size_t i = 0; i < matrices.size(); ++i) {
    ASSERT_OK_AND_ASSIGN(const PackedFile::NamedMatrix matrix, file.Read(i));
    EXPECT_EQ(matrix.name, matrices[i].name);
    EXPECT_EQ(matrix.matrix.layout, matrices[i].matrix.layout);
    EXPECT_EQ(Contents(matrix), Contents(matrices[i]));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(matrix.matrix.bytes.data()) % 64, 0u);
  }
}

TEST_F(PackedFileTest, AMatrixOutlivesItsFileAndTheFilesName) {
  Write();
  PackedFile::NamedMatrix matrix;
  {
    ASSERT_OK_AND_ASSIGN(const PackedFile file, PackedFile::Open(path_));
    ASSERT_OK_AND_ASSIGN(matrix, file.Read(2));
  }
  Write();
  fs::remove(path_);
  EXPECT_EQ(Contents(matrix), std::string(9000, 'x'));
}

TEST_F(PackedFileTest, IsForThisUserAloneAndLeavesNothingElse) {
  Write();
  struct stat status;
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

// Cut short anywhere, or with any byte changed, it is refused: if not when it is opened, then when
// the matrix is read. Only what lies between matrices does not matter.
TEST_F(PackedFileTest, RefusesWhatIsNotWhole) {
  const std::string whole = Write();
  const auto read_all = [](const std::string& contents) -> absl::Status {
    ASSIGN_OR_RETURN(const PackedFile file, PackedFile::Parse(AsBytes(contents)));
    EXPECT_EQ(file.origin(), kOrigin);
    for (size_t i = 0; i < file.num_matrices(); ++i) {
      ASSIGN_OR_RETURN(const PackedFile::NamedMatrix matrix, file.Read(i));
      EXPECT_EQ(Contents(matrix), Contents(Matrices()[i]));
    }
    EXPECT_EQ(file.num_matrices(), Matrices().size());
    return absl::OkStatus();
  };
  ASSERT_OK(read_all(whole));
  for (size_t size = 0; size < whole.size(); size += size < 400 ? 1 : 101) {
    EXPECT_THAT(read_all(whole.substr(0, size)), Not(IsOk())) << size;
  }
  EXPECT_THAT(read_all(whole + "x"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("once had")));

  for (size_t at = 0; at < whole.size(); at += at < 400 ? 1 : 7) {
    std::string changed = whole;
    changed[at] ^= 0x40;
    if (const absl::Status status = read_all(changed); status.ok()) {
      const bool is_matrix = (at >= 4096 && at < 4096 + 30) || at >= 8192;
      EXPECT_FALSE(at < 200 || is_matrix) << at;
    }
  }
}

// What a header and a table claim whose checksums are right is not believed either.
TEST_F(PackedFileTest, RefusesTablesThatLie) {
  const auto number = [](auto value) {
    return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  const auto text = [&](absl::string_view value) {
    return number(static_cast<uint32_t>(value.size())) + std::string(value);
  };
  const auto file = [&](const std::string& table, uint64_t table_bytes) {
    const std::string rest(8192, 'd');
    std::string header = "ATTNPACK" + number(uint32_t{1}) + std::string(20, '\0') +
                         number(uint64_t{64 + table.size() + rest.size()}) + number(table_bytes) +
                         number(Hash64(table));
    return header + number(Hash64(header)) + table + rest;
  };
  const auto parse = [&](const std::string& table) {
    const std::string contents = file(table, table.size());
    return PackedFile::Parse(AsBytes(contents)).status();
  };
  const auto entry = [&](uint64_t begin, uint64_t size) {
    return text("m") + text("l") + number(begin) + number(size) + number(uint64_t{0});
  };
  const std::string no_origin = number(uint32_t{0});
  EXPECT_OK(parse(no_origin));
  EXPECT_OK(parse(no_origin + entry(4096, 4096)));

  constexpr uint64_t kHuge = ~uint64_t{0};
  for (const std::string& table :
       {std::string(), number(uint32_t{1}), number(~uint32_t{0}), number(uint32_t{1}) + text("a"),
        number(uint32_t{1}) + number(~uint32_t{0}) + "a", no_origin + "x",
        no_origin + number(~uint32_t{0}) + std::string(100, 'x'), no_origin + entry(4097, 1),
        no_origin + entry(4096, 4300), no_origin + entry(kHuge / 4096 * 4096, 4096),
        no_origin + entry(4096, kHuge), no_origin + entry(4096, kHuge - 4095),
        no_origin + entry(1 << 30, 0)}) {
    EXPECT_THAT(parse(table), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  }
  for (const uint64_t table_bytes : {uint64_t{1} << 40, kHuge, kHuge - 63}) {
    const std::string contents = file(no_origin, table_bytes);
    EXPECT_THAT(PackedFile::Parse(AsBytes(contents)),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("damaged")));
  }
}

TEST_F(PackedFileTest, RefusesAnotherVersion) {
  std::string contents = Write();
  contents[8] = 2;
  EXPECT_THAT(PackedFile::Parse(AsBytes(contents)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("version 2")));
}

TEST_F(PackedFileTest, RefusesWhatOthersMayHaveWritten) {
  Write();
  for (const mode_t mode : {0620, 0602, 0666}) {
    ASSERT_EQ(chmod(path_.c_str(), mode), 0);
    EXPECT_THAT(PackedFile::Open(path_), StatusIs(absl::StatusCode::kPermissionDenied));
  }
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  EXPECT_OK(PackedFile::Open(path_));
  if (geteuid() != 0) return;  // may not give files away
  ASSERT_EQ(chown(path_.c_str(), 12345, 12345), 0);
  EXPECT_THAT(PackedFile::Open(path_), StatusIs(absl::StatusCode::kPermissionDenied));
}

TEST_F(PackedFileTest, TakesOverWhatAWriterLeftThatDied) {
  const fs::path temporary = absl::StrCat(path_.string(), ".tmp");
  std::ofstream(temporary) << std::string(100000, 'x');
  Write();
  EXPECT_OK(PackedFile::Open(path_));
  EXPECT_FALSE(fs::exists(temporary));
}

TEST_F(PackedFileTest, TwoDoNotWriteAtATime) {
  const std::string temporary = absl::StrCat(path_.string(), ".tmp");
  {
    const FileDescriptor other(open(temporary.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(flock(other.get(), LOCK_EX | LOCK_NB), 0);
    EXPECT_THAT(PackedFile::Write(path_, kOrigin, Matrices()),
                StatusIs(absl::StatusCode::kAborted, HasSubstr("another process")));
    EXPECT_FALSE(fs::exists(path_));
  }
  EXPECT_OK(PackedFile::Write(path_, kOrigin, Matrices()));
}

// Writers at once, and readers meanwhile: whoever sees the file sees a whole one.
TEST_F(PackedFileTest, IsAlwaysWhole) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const absl::Status written = PackedFile::Write(path_, kOrigin, Matrices());
        EXPECT_TRUE(written.ok() || absl::IsAborted(written)) << written;
        const absl::StatusOr<PackedFile> file = PackedFile::Open(path_);
        if (absl::IsNotFound(file.status())) continue;
        ASSERT_OK(file.status());
        for (size_t index = 0; index < file->num_matrices(); ++index) EXPECT_OK(file->Read(index));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_OK(PackedFile::Open(path_));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(PackedFileTest, FollowsNobodysLinks) {
  const fs::path victim = folder_ / "victim";
  const std::string temporary = absl::StrCat(path_.string(), ".tmp");
  std::ofstream(victim) << "precious";
  fs::create_symlink(victim, temporary);
  EXPECT_THAT(PackedFile::Write(path_, kOrigin, Matrices()), Not(IsOk()));
  fs::remove(temporary);
  fs::create_hard_link(victim, temporary);
  EXPECT_THAT(PackedFile::Write(path_, kOrigin, Matrices()),
              StatusIs(absl::StatusCode::kPermissionDenied));
  EXPECT_EQ(ReadFileOrDie(victim), "precious");
}

TEST_F(PackedFileTest, SaysWhyItCannotBeWritten) {
  EXPECT_THAT(PackedFile::Write(folder_ / "absent/model.packed", kOrigin, Matrices()),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot create")));
  Write();
  EXPECT_THAT(PackedFile::Write(path_ / "model.packed", kOrigin, Matrices()), Not(IsOk()));
  // What cannot be replaced leaves nothing behind.
  const fs::path taken = folder_ / "taken";
  fs::create_directories(taken / "full");
  EXPECT_THAT(PackedFile::Write(taken, kOrigin, Matrices()), Not(IsOk()));
  EXPECT_FALSE(fs::exists(absl::StrCat(taken.string(), ".tmp")));
}

TEST_F(PackedFileTest, ACacheTakesInOrderWhatAnotherKept) {
  PackedCache first(path_, kOrigin);
  EXPECT_FALSE(first.has_matrices());
  for (const PackedFile::NamedMatrix& matrix : Matrices()) first.Keep(matrix.name, matrix.matrix);
  first.Finish();

  PackedCache second(path_, kOrigin);
  ASSERT_TRUE(second.has_matrices());
  for (const PackedFile::NamedMatrix& matrix : Matrices()) {
    ASSERT_OK_AND_ASSIGN(const PackedMatrix taken, second.Take(matrix.name));
    EXPECT_EQ(taken.layout, matrix.matrix.layout);
  }
  EXPECT_THAT(second.Take("more"), StatusIs(absl::StatusCode::kFailedPrecondition));

  PackedCache third(path_, kOrigin);
  EXPECT_THAT(third.Take("none"), StatusIs(absl::StatusCode::kFailedPrecondition,
                                           HasSubstr("its next matrix is query, not none")));
}

TEST_F(PackedFileTest, ACacheOfAnotherOriginIsWrittenAnew) {
  Write();
  for (const PackedFile::Origin& origin :
       {PackedFile::Origin{{"checkpoint", "that one"}, {"dtype", "bf16"}},
        {{"checkpoint", "this one"}, {"dtype", "f32"}},
        {{"checkpoint", "this one"}, {"dtype", "bf16"}, {"library", "new"}}}) {
    PackedCache cache(path_, origin);
    EXPECT_FALSE(cache.has_matrices());
    cache.Keep("other", {});
    cache.Finish();
    EXPECT_TRUE(PackedCache(path_, origin).has_matrices());
  }
  Overwrite("no such file");
  EXPECT_FALSE(PackedCache(path_, kOrigin).has_matrices());
  Overwrite("");
  EXPECT_FALSE(PackedCache(path_, kOrigin).has_matrices());
}

}  // namespace
}  // namespace attendant::engine
