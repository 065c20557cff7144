#include "step/site_selection.h"

#include <algorithm>
#include <array>
#include <set>

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

bool read_by_linear(Sublayer& sublayer, const std::string& site) {
  const std::vector<Linear*> linears = sublayer.linears();
  return std::any_of(linears.begin(), linears.end(),
                     [&](const Linear* linear) { return linear->site == site; });
}

constexpr std::array kGroups = {"all", "linear_inputs", "attention", "ssm", "rest"};

bool is_group(const std::string& entry) {
  return std::ranges::find(kGroups, entry) != kGroups.end();
}

// A state-space mixer is a part with a decay.
bool is_state_space(Part& part) {
  return std::ranges::any_of(part.weights(),
                             [](const Weight* weight) { return weight->role == Role::kDecay; });
}

std::set<const Site*> state_space_sites(Sublayer& sublayer) {
  std::set<const Site*> sites;
  for (Branch& branch : sublayer.branches) {
    if (!is_state_space(*branch.part)) continue;
    for (const Site* site : branch.part->sites()) sites.insert(site);
  }
  return sites;
}

}  // namespace

SiteSelection::SiteSelection(JsonFields& options, const std::string& fallback)
    : where_(options.path() + ".sites") {
  if (!options.has("sites")) {
    entries_ = {fallback};
    return;
  }
  const Json& value = options.at("sites");
  for (const Json& name : value.is_array() ? value : Json::array({value})) {
    if (!name.is_string()) {
      throw usage_error(where_, value.dump() + " does not name sites",
                        "\"all\", \"linear_inputs\", \"attention\", \"ssm\", \"rest\", or a list of names");
    }
    entries_.push_back(name.get<std::string>());
  }
}

bool SiteSelection::has(const std::string& entry) const {
  return std::find(entries_.begin(), entries_.end(), entry) != entries_.end();
}

void SiteSelection::check(const std::vector<Sublayer*>& sublayers) const {
  for (const std::string& entry : entries_) {
    if (!is_group(entry)) expect_site(sublayers, entry, where_);
  }
}

std::vector<std::string> SiteSelection::names(Sublayer& sublayer) const {
  const std::set<const Site*> state_space = state_space_sites(sublayer);
  std::vector<std::string> names;
  for (const Site* site : sublayer.sites()) {
    if (site->kind == kRouterInput) {
      if (has(site->name))
        throw usage_error(where_, "\"" + site->name + "\" is what a router reads, and stays in float");
      continue;
    }
    if (site->kind == kStateSite) {
      if (has(site->name)) names.push_back(site->name);
      continue;
    }
    const bool by_linear = read_by_linear(sublayer, site->name), ssm = state_space.contains(site);
    const bool wanted = has("all") || has(site->name) || (has("attention") && site->kind == "attention") ||
                        (has("linear_inputs") && by_linear) || (has("ssm") && ssm) ||
                        (has("rest") && by_linear && !ssm);
    if (wanted) names.push_back(site->name);
  }
  return names;
}

std::vector<std::string> SiteSelection::transformable(Sublayer& sublayer) const {
  std::vector<std::string> names;
  for (const std::string& name : this->names(sublayer)) {
    if (read_by_linear(sublayer, name) && !sublayer.site(name).shared) {
      names.push_back(name);
    } else if (has(name)) {
      throw usage_error(name, "cannot be transformed: only a site that linears read, and nothing else, can",
                        "sites = \"linear_inputs\" takes those that can");
    }
  }
  return names;
}

void expect_site(const std::vector<Sublayer*>& sublayers, const std::string& site, const std::string& where) {
  std::vector<std::string> names;
  for (Sublayer* sublayer : sublayers) {
    for (const Site* there : sublayer->sites()) {
      if (there->name == site) return;
      names.push_back(there->name);
    }
  }
  throw usage_error(where, "the model has no activation site \"" + site + "\"", suggest(site, names));
}

int64_t site_channels(Sublayer& sublayer, const std::string& site) {
  for (const Linear* linear : sublayer.linears()) {
    if (linear->site == site) return linear->weight.size(1);
  }
  return 0;
}

}  // namespace ptq
