#include "engine/base/processor_claim.h"

#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

// Beyond any machine's, so that no server's claims are in the way.
int Processor(int number) { return 1'000'000'000 + getpid() % 1'000'000 * 10 + number; }

TEST(ProcessorClaimTest, IsHeldByOneUntilItIsGone) {
  std::optional<ProcessorClaim> claim = ProcessorClaim::Take(Processor(1));
  ASSERT_TRUE(claim.has_value());
  EXPECT_EQ(claim->processor(), Processor(1));
  EXPECT_FALSE(ProcessorClaim::Take(Processor(1)).has_value());
  EXPECT_TRUE(ProcessorClaim::Take(Processor(2)).has_value());
  ProcessorClaim moved = *std::move(claim);
  claim.reset();
  EXPECT_FALSE(ProcessorClaim::Take(Processor(1)).has_value());
  moved = *ProcessorClaim::Take(Processor(3));
  EXPECT_TRUE(ProcessorClaim::Take(Processor(1)).has_value());
}

TEST(ProcessorClaimTest, IsSeenByOtherProcessesAndEndsWithItsOwn) {
  const int processor = Processor(4);
  int ready[2], done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(done[1]);
    const std::optional<ProcessorClaim> claim = ProcessorClaim::Take(processor);
    char byte = claim.has_value();
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    // Until the parent closes its end; then without a destructor.
    (void)!read(done[0], &byte, 1);
    _exit(0);
  }
  char taken = 0;
  ASSERT_EQ(read(ready[0], &taken, 1), 1);
  EXPECT_TRUE(taken);
  EXPECT_FALSE(ProcessorClaim::Take(processor).has_value());
  close(done[1]);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(ProcessorClaim::Take(processor).has_value());
}

}  // namespace
}  // namespace attendant::engine
