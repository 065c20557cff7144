// The sites a step works on.
#pragma once

#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/model/model.h"

namespace ptq {

// The option `sites`: "all", "linear_inputs" (read by a linear), "attention" (queries, keys and values), a
// site's name, or a list of these.
class SiteSelection {
 public:
  SiteSelection(JsonFields& options, const std::string& fallback);

  // The names in the order in which the forward reaches them. Throws a usage Error for a name the block
  // lacks.
  std::vector<std::string> names(Block& block) const;
  // Those that a transform may be put on: read by linears and by nothing else. Throws a usage Error for a
  // site that was asked for by name and is not.
  std::vector<std::string> transformable(Block& block) const;

 private:
  bool has(const std::string& entry) const;

  std::vector<std::string> entries_;
};

// Channels of a site that linears read; 0 if none does.
int64_t site_channels(Block& block, const std::string& site);

}  // namespace ptq
