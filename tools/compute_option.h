// --compute: how the products of a model that runs are made.
#pragma once

#include <cstdint>
#include <string>

#include "ptq/artifact/open_model.h"
#include "ptq/model/linear.h"

namespace ptq {

// What --compute can be.
inline constexpr const char* kComputeInFloat = "float";
inline constexpr const char* kComputeInInt8 = "int8";

// How many linears of a model's blocks Compute::int8_inputs changes, and how many there are. Reads schemes
// of the checkpoint, not values. Throws Error as open_any_model() does.
struct Int8Linears {
  int64_t changed = 0, all = 0;
};
Int8Linears int8_linears(const std::string& path, const CheckpointOptions& options);

// What --compute asks for. Throws a usage Error for int8 if it would change nothing, and warns if it changes
// some linears only.
Compute compute_of(const std::string& asked, const std::string& path, const CheckpointOptions& options);

// The usage Error for models of which --compute int8 changes nothing.
[[noreturn]] void throw_nothing_to_round(const std::string& models);

}  // namespace ptq
