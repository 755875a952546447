#include "engine/base/cpu_topology.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace attendant::engine {
namespace {

class CpuTopologyTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& contents) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << contents;
  }

  const std::filesystem::path root_ =
      std::filesystem::path(::testing::TempDir()) /
      ::testing::UnitTest::GetInstance()->current_test_info()->name();

  void SetUp() override { std::filesystem::remove_all(root_); }
  void TearDown() override { std::filesystem::remove_all(root_); }
};

TEST_F(CpuTopologyTest, ThreadsAreTheLeastOfTheBounds) {
  CpuTopology topology{.affinity = {0, 1, 2, 3, 4, 5, 6, 7}, .physical_cores = 4};
  EXPECT_EQ(topology.NumThreads(), 4);
  topology.cgroup_cpus = 2.9;
  EXPECT_EQ(topology.NumThreads(), 2);
  topology.cgroup_cpus = 0.5;
  EXPECT_EQ(topology.NumThreads(), 1);
}

TEST_F(CpuTopologyTest, WhatCannotBeReadBoundsNothing) {
  const CpuTopology topology = ReadCpuTopology(root_);
  EXPECT_FALSE(topology.cgroup_cpus.has_value());
  EXPECT_EQ(topology.physical_cores, static_cast<int>(topology.affinity.size()));
}

TEST_F(CpuTopologyTest, TheTightestGroupOfVersion2Counts) {
  Write("proc/self/cgroup", "0::/pod/container\n");
  Write("sys/fs/cgroup/pod/cpu.max", "150000 100000\n");
  Write("sys/fs/cgroup/pod/container/cpu.max", "max 100000\n");
  EXPECT_EQ(ReadCpuTopology(root_).cgroup_cpus, 1.5);
}

TEST_F(CpuTopologyTest, AGroupThatIsNotMountedFallsBackToTheMount) {
  Write("proc/self/cgroup", "0::/system.slice/docker-1234.scope\n");
  Write("sys/fs/cgroup/cpu.max", "400000 200000\n");
  EXPECT_EQ(ReadCpuTopology(root_).cgroup_cpus, 2.0);
}

TEST_F(CpuTopologyTest, ReadsVersion1) {
  Write("proc/self/cgroup", "3:cpuset:/x\n4:cpu,cpuacct:/docker/1\n");
  Write("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us", "300000\n");
  Write("sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(ReadCpuTopology(root_).cgroup_cpus, 3.0);
}

TEST_F(CpuTopologyTest, NoQuotaOfVersion1IsNoBound) {
  Write("proc/self/cgroup", "4:cpu:/\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(ReadCpuTopology(root_).cgroup_cpus.has_value());
}

TEST_F(CpuTopologyTest, ThreadsOfOneCoreCountOnce) {
  for (const int cpu : ReadCpuTopology(root_).affinity) {
    const std::string folder = absl::StrCat("sys/devices/system/cpu/cpu", cpu, "/topology/");
    Write(folder + "physical_package_id", "0\n");
    Write(folder + "core_id", absl::StrCat(cpu / 2, "\n"));
  }
  const CpuTopology topology = ReadCpuTopology(root_);
  EXPECT_LE(topology.physical_cores, static_cast<int>(topology.affinity.size() + 1) / 2 + 1);
  EXPECT_EQ(topology.NumThreads(), topology.physical_cores);
}

}  // namespace
}  // namespace attendant::engine
