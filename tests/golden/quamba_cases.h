// The sorts of Quamba golden cases.
#pragma once

#include "checks.h"

namespace ptq::golden {

// A case of the first paper's fake quantization: `stem`.json and `stem`.safetensors.
void run_paper_case(const std::filesystem::path& json_path, Checks& checks);

// A case of Quamba2's clusters, scales and codes of a Mamba-2: `stem`.json and `stem`.safetensors.
void run_mamba2_case(const std::filesystem::path& json_path, Checks& checks);

// Unit vectors, all in the JSON. Units of functions that the program lacks are printed as skipped.
void run_quamba_units(const std::filesystem::path& json_path, Checks& checks);

}  // namespace ptq::golden
