// The functions that return the rows of the table, and what several formats need.
#pragma once

#include <string>

#include "ptq/export/formats.h"

namespace ptq {

FormatEntry compressed_tensors_format();
FormatEntry gguf_format();
FormatEntry peft_format();

// The quant_method in the quantization_config of the config.json in, or beside, `path`: what tells formats in
// Hugging Face's layout apart. "" if there is none, or no file that can be read.
std::string quant_method_at(const std::string& path);

}  // namespace ptq
