// Which linears of an artifact a format of another program has in codes, and under which scheme: what the
// formats of integers share, and the plan of those that hold weights alone, all under one scheme.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "export/lora_adapter.h"
#include "ptq/artifact/open_model.h"
#include "ptq/export/formats.h"

namespace ptq {

inline constexpr int kServedBits = 4;  // a layer that does not bear these stays in float

// "model.layers.0.sites.qkv.input".
std::string site_text(const Block& block, const Site& site);

// The head, whether it is the embedding or not, by its own name and by that of loaders, and other linears
// that lie outside of the blocks: always in float.
std::vector<std::string> linears_outside(Model& model);

// The linears for which `chosen` holds: the last part of a name where it holds for all of that last part,
// else the name. `text` makes an entry of either.
std::vector<std::string> chosen_names(const std::map<std::string, bool>& chosen,
                                      const std::function<std::string(const std::string&)>& text);

// Throws Error for a correction that no adapter holds: of a layer beside which peft puts nothing.
void expect_adapter_holds(const Linear& linear);

// The integers of a linear in codes, of any number of bits: MXINT as groups of integers, groups of a size
// that divides the rows. Throws Error, naming `format`, for NF4 and for groups that are too uneven.
WeightScheme integers_of(const Linear& linear, const std::string& format);

// Of schemes that differ in their groups alone, each of rows of so many columns, makes groups of the common
// divisor. No-op if they differ otherwise, or if the divisor is smaller than the groups of servers' kernels.
struct RowScheme {
  WeightScheme* scheme;
  int64_t columns;
};
void make_groups_alike(const std::vector<RowScheme>& schemes);

// Codes under a scheme that holds the same values: scales and zero points repeated for smaller groups.
QuantizedTensor fitted(const QuantizedTensor& q, const WeightScheme& scheme);
// Groups of scale 0, by which loaders divide, get codes that stand for 0 and another scale.
void replace_zero_scales(QuantizedTensor& q);

// Throws Error for a transform that no weight takes in again, of queries and keys: `what` cannot run it.
void expect_transforms_of_linears(Block& block, const std::string& what);

// Counts the sites that round, by name: where only weights are written, they do no more.
void add_unrounded_sites(Block& block, std::map<std::string, int64_t>& sites);
// A line for people about each.
std::string unrounded_text(const std::map<std::string, int64_t>& sites);

struct WeightsPlan {
  std::map<std::string, bool> linears;  // by name; false: in float
  WeightScheme scheme;                  // of all that are in codes
  CorrectedModules corrected;           // whose corrections an adapter holds

  // Last parts of names, where all of a last part are, else names.
  std::vector<std::string> names_in_codes() const { return names(true); }
  std::vector<std::string> names_in_float() const { return names(false); }

 private:
  std::vector<std::string> names(bool in_codes) const;
};

// A format that holds nothing but weights under one scheme.
struct WeightsFormat {
  const char* name;  // for errors
  // The scheme of a linear in codes. Throws Error for what the format does not hold.
  WeightScheme (*scheme_of)(const Linear& linear);
  bool loads_ssm;  // whether a program loads a state-space model in this format
};

// From schemes, sites and shapes alone: the artifact may lie on the meta device. Throws Error, naming the
// layer and an alternative, for sites that round or transform, several schemes, corrections that no adapter
// holds, and where nothing is in codes. Layers that bear no few bits stay in float.
WeightsPlan plan_weights(const OpenModel& artifact, const WeightsFormat& format);

// FormatEntry::stored: every linear of the blocks, and what `fill` says of it.
StoredForm stored_form(const OpenModel& artifact,
                       const std::function<void(const Linear&, StoredLinear&)>& fill);
// Of what plan_weights() plans.
StoredForm stored_weights(const OpenModel& artifact, const WeightsFormat& format);

}  // namespace ptq
