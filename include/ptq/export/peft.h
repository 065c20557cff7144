// An artifact with low-rank corrections in the form that the Python library peft loads: a LoRA adapter, and
// the rounded weights as a float model that it belongs to.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "ptq/artifact/open_model.h"
#include "ptq/base/output.h"

namespace ptq {

struct PeftExport {
  int64_t rank = 0;     // of every module: smaller ones are padded with zeros
  int64_t modules = 0;  // corrected linears in the adapter
  // Linears whose correction is part of the base's weight instead, because peft refuses modules of their name
  // (Linear::fused_elsewhere); sorted.
  std::vector<std::string> folded;
};

// Writes the base to `base`, a Hugging Face directory: the source's configuration and tokenizer, and the
// values that the codes stand for as `dtype` (kFloat keeps them exactly); and to `adapter`
// adapter_model.safetensors (BF16 or F16, as the corrections are stored; codes as F16), adapter_config.json,
// which names `base_name` as its base, and README.md, which says what belongs together and what was folded.
// peft scales by lora_alpha / r, which is 1. Throws Error if the artifact has no corrections that an adapter
// can hold, if it rounds activations or has online transforms, which peft cannot run, or if `dtype` does not
// hold a weight. Memory: a block at a time.
PeftExport export_peft(const OpenModel& artifact, const std::string& base_name, at::ScalarType dtype,
                       OutputDirectory& adapter, OutputDirectory& base);

}  // namespace ptq
