// The functions that return the rows of the table, and what several formats need.
#pragma once

#include <cstdint>
#include <string>

#include "ptq/base/error.h"
#include "ptq/export/formats.h"

namespace ptq {

FormatEntry awq_format();
FormatEntry bitsandbytes_format();
FormatEntry compressed_tensors_format();
FormatEntry float_format();
FormatEntry gguf_format();
FormatEntry gptq_format();
FormatEntry peft_format();
FormatEntry pt_format();

// The quant_method in the quantization_config of the config.json in, or beside, `path`: what tells formats in
// Hugging Face's layout apart. "" if there is none, or no file that can be read.
std::string quant_method_at(const std::string& path);

// What an Error that `plan` throws says: why a format does not hold an artifact. "" if it throws none.
template <typename Plan>
std::string reason_against(const Plan& plan) {
  try {
    plan();
  } catch (const Error& error) {
    if (error.exit_code() == ExitCode::kInterrupted) throw;
    return error.what();
  }
  return "";
}

// "1 layer", "2 layers".
std::string count_text(int64_t count, const std::string& what);

}  // namespace ptq
