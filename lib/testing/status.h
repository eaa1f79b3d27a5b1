// Expectations on a Status or StatusOr that say what it was.
#pragma once

#include <gtest/gtest.h>

#include "lib/base/status.h"

namespace muster::testing {

inline const Status& StatusOf(const Status& status) { return status; }
template <typename Value>
const Status& StatusOf(const StatusOr<Value>& value) {
  return value.status();
}

inline ::testing::AssertionResult IsOk(const Status& status) {
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << Text(status);
}

}  // namespace muster::testing

#define ASSERT_OK(expression) \
  ASSERT_TRUE(::muster::testing::IsOk(::muster::testing::StatusOf(expression)))
#define EXPECT_OK(expression) \
  EXPECT_TRUE(::muster::testing::IsOk(::muster::testing::StatusOf(expression)))
