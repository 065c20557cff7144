#include "step/site_selection.h"

#include <algorithm>

#include "ptq/base/error.h"

namespace ptq {
namespace {

bool read_by_linear(Block& block, const std::string& site) {
  const std::vector<Linear*> linears = block.linears();
  return std::any_of(linears.begin(), linears.end(),
                     [&](const Linear* linear) { return linear->site == site; });
}

}  // namespace

SiteSelection::SiteSelection(JsonFields& options, const std::string& fallback) {
  if (!options.has("sites")) {
    entries_ = {fallback};
    return;
  }
  const Json& value = options.at("sites");
  for (const Json& name : value.is_array() ? value : Json::array({value})) {
    if (!name.is_string()) {
      throw usage_error(options.path() + ".sites", value.dump() + " does not name sites",
                        "\"all\", \"linear_inputs\", \"attention\", or a list of names");
    }
    entries_.push_back(name.get<std::string>());
  }
}

bool SiteSelection::has(const std::string& entry) const {
  return std::find(entries_.begin(), entries_.end(), entry) != entries_.end();
}

std::vector<std::string> SiteSelection::names(Block& block) const {
  for (const std::string& entry : entries_) {
    if (entry != "all" && entry != "linear_inputs" && entry != "attention") block.site(entry);  // must exist
  }
  std::vector<std::string> names;
  for (const Site* site : block.sites()) {
    const bool wanted = has("all") || has(site->name) || (has("attention") && site->kind == "attention") ||
                        (has("linear_inputs") && read_by_linear(block, site->name));
    if (wanted) names.push_back(site->name);
  }
  return names;
}

std::vector<std::string> SiteSelection::transformable(Block& block) const {
  std::vector<std::string> names;
  for (const std::string& name : this->names(block)) {
    if (read_by_linear(block, name) && !block.site(name).shared) {
      names.push_back(name);
    } else if (has(name)) {
      throw usage_error(name, "cannot be transformed: only a site that linears read, and nothing else, can",
                        "sites = \"linear_inputs\" takes those that can");
    }
  }
  return names;
}

int64_t site_channels(Block& block, const std::string& site) {
  for (const Linear* linear : block.linears()) {
    if (linear->site == site) return linear->weight.value.size(1);
  }
  return 0;
}

}  // namespace ptq
