// The tensors of a model as a GGUF has them: names, types, bytes, and what their types cost.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "export/gguf/architectures.h"

namespace ptq {

// The types that a user may ask for; "auto" is empty.
struct GgufTypes {
  const GgmlTypeEntry* linears = nullptr;  // of what is in codes, or of all linears of a float model
  const GgmlTypeEntry* floats = nullptr;   // of matrices that are left in float
};

// What a type holds, and what it cost.
struct GgufTally {
  int64_t tensors = 0, bytes = 0, exact = 0;
  int64_t other_rows = 0;        // whose rows are no multiple of the wanted type's block
  double signal = 0, noise = 0;  // sums of squares over tensors that are not exact

  // Of the tensors that are not exact.
  double sqnr_db() const;
};

class GgufConversion {
 public:
  // `open` must outlive it. Throws Error if a tensor has no place, or a site's transform cannot be undone.
  // Reads every block once, for schemes and shapes.
  GgufConversion(const OpenModel& open, const GgufTypes& types);

  const GgufArchitecture& architecture() const { return architecture_; }
  // Whole.
  const Json& config() const { return config_; }
  const std::vector<GgufTensorHeader>& tensors() const { return headers_; }
  // The type of most bytes, for general.file_type.
  const GgmlTypeEntry& main_type() const;
  int64_t sites_that_round() const { return sites_that_round_; }
  int64_t undone_transforms() const { return undone_; }
  // The largest rank of a correction; 0 if there is none.
  int64_t rank() const { return rank_; }

  using Take = std::function<void(const Tensor& bytes)>;
  // Hands out the bytes of each tensor, in the order of tensors(), a large one in parts. Reads every block
  // again. Memory: a block, and the largest tensor in float32. Throws Error for values that a type does not
  // hold.
  void convert(const Take& take);
  // By name of the type, after convert().
  const std::map<std::string, GgufTally>& tallies() const { return tallies_; }

  // The corrections as an adapter's tensors, all of rank(): headers, and then the values of each, float32.
  std::vector<GgufTensorHeader> adapter_tensors() const;
  void convert_adapter(const Take& take) const;

 private:
  // What a tensor becomes.
  struct Form {
    const GgmlTypeEntry* type = nullptr;
    bool in_codes = false;    // stored without rounding again
    bool other_rows = false;  // its rows do not fit what was wanted
  };
  // A weight, and the linear that it belongs to, if any.
  using Visit = std::function<void(const Weight&, const GgufPlace&, const Transform*)>;
  void visit(const Visit& visit) const;
  void visit_corrections(const std::function<void(const Linear&, const Transform*)>& visit) const;
  Form form_of(const Weight& weight, const Transform* undo) const;
  void convert_weight(const Weight& weight, const GgufPlace& place, const Transform* undo, const Take& take);
  // The codes, as the type has them.
  Tensor packed_codes(const Weight& weight, const GgufPlace& place, GgmlType type) const;
  Tensor values_of(const Weight& weight, const GgufPlace& place, const Transform* undo) const;

  const OpenModel& open_;
  GgufTypes types_;
  const GgufArchitecture& architecture_;
  Json config_;
  std::vector<GgufTensorHeader> headers_;
  std::map<std::string, GgufTally> tallies_;
  int64_t sites_that_round_ = 0, undone_ = 0, rank_ = 0;
};

}  // namespace ptq
