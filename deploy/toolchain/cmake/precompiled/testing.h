// common.h, and what tests include.
#include "deploy/toolchain/cmake/precompiled/common.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
