// Low-rank corrections in the form that the Python library peft loads: a LoRA adapter.
//
// A directory with adapter_model.safetensors (BF16 or F16, as the corrections are stored; codes as F16),
// adapter_config.json, which names its base, and README.md, which says what belongs together. peft scales by
// lora_alpha / r, which is 1.
#pragma once

#include <map>
#include <set>
#include <string>

#include "ptq/artifact/safetensors_spool.h"
#include "ptq/base/output.h"
#include "ptq/model/model.h"

namespace ptq {

// The linears that are corrected, and how many linears there are of each last part of a name.
struct CorrectedModules {
  std::set<std::string> beside;  // by the adapter
  std::set<std::string> folded;  // where peft puts nothing (Linear::fused_elsewhere)
  std::map<std::string, int64_t> linears;
  int64_t rank = 0;  // of the adapter: the largest
};

// From shapes alone.
CorrectedModules find_corrected(const Model& model);

class LoraAdapter {
 public:
  // Nothing is at `path`. `modules` must outlive it.
  LoraAdapter(const std::string& path, const CorrectedModules& modules, std::string base_name);

  // The correction of one of modules.beside. Throws Error for values that the adapter's dtype does not hold.
  void add(const Linear& linear);
  // Writes what was added and the files beside it.
  void write();
  void commit() { output_.commit(); }

 private:
  Json config() const;
  std::string readme() const;

  const CorrectedModules& modules_;
  std::string base_name_;
  OutputDirectory output_;
  SafetensorsSpool tensors_;
};

}  // namespace ptq
