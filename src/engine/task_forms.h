// The data sets whose rows are known. To add one: its reader and its row in task_forms.cpp.
#pragma once

#include <span>
#include <string>

#include "ptq/base/json.h"
#include "ptq/engine/tasks.h"

namespace ptq {

// Where examples come from where the harness's definition of a task says so.
enum class Draw {
  kAsked,    // as many as asked at random
  kOneMore,  // one more, of which the question itself is left out
  kFirst,    // the first ones of the same subject
};

struct TaskForm {
  const char* name;
  const char* fields;  // that its rows have, for messages
  bool (*matches)(const Json& row);
  // Throws Error for what is missing or of another type.
  TaskQuestion (*read)(JsonFields& row);
  Draw draw;
  bool normalizes = false;  // by the length of a choice, beside the plain accuracy
  bool last_word = false;   // there is one continuation, and it is right if the model would write it
  // The field of answers that are published in a file of their own, one a line: FILE-labels.lst beside
  // FILE.jsonl. Null if rows have them.
  const char* apart = nullptr;
};

// In the order in which rows are compared with them.
std::span<const TaskForm> task_forms();

}  // namespace ptq
