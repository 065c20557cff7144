// The sites a step works on.
#pragma once

#include <string>
#include <vector>

#include "ptq/base/json.h"
#include "ptq/model/model.h"

namespace ptq {

// The option `sites`: a site's name, a group of sites, or a list of these. Groups, none of which has what a
// router reads:
//   "all"
//   "linear_inputs"  what linears read
//   "attention"      queries, keys and values
//   "ssm"            all sites of the state-space mixers, such as "in_proj.input" and "ssm.x"
//   "rest"           what linears outside of those mixers read
class SiteSelection {
 public:
  SiteSelection(JsonFields& options, const std::string& fallback);

  // True if the option is "all", or was not given and falls back to it.
  bool is_everything() const { return has("all"); }

  // Throws a usage Error for a name that no sublayer of a model has.
  void check(const std::vector<Sublayer*>& sublayers) const;
  // Those that the sublayer has, in the order in which the forward reaches them.
  std::vector<std::string> names(Sublayer& sublayer) const;
  // Those that a transform may be put on: read by linears and by nothing else. Throws a usage Error for a
  // site that was asked for by name and is not.
  std::vector<std::string> transformable(Sublayer& sublayer) const;

 private:
  bool has(const std::string& entry) const;

  std::string where_;
  std::vector<std::string> entries_;
};

// Throws a usage Error, with `where` and a suggestion, if no sublayer has a site of that name.
void expect_site(const std::vector<Sublayer*>& sublayers, const std::string& site, const std::string& where);

// Channels of a site that linears read; 0 if none does.
int64_t site_channels(Sublayer& sublayer, const std::string& site);

}  // namespace ptq
