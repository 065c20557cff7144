// EXPECT_ERROR: a statement throws ptq::Error with an exit code and a message that contains some words.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "ptq/base/error.h"

#define EXPECT_ERROR(statement, code, words)                                             \
  try {                                                                                  \
    statement;                                                                           \
    ADD_FAILURE() << "no error from " #statement;                                        \
  } catch (const ::ptq::Error& error) {                                                  \
    EXPECT_EQ(error.exit_code(), code);                                                  \
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what(); \
  }
