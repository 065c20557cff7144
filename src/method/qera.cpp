// QERA (arXiv 2410.06040): weights rounded to a base format, and beside each a low-rank term in closed form
// that takes back what matters most in the layer's output. The default rounds and solves in turns, four times
// (the paper: once), and shrinks the second moment a little towards its diagonal (the paper: not), because
// both measured better on every model tried; rounds=1 shrinkage=0 is the paper's. Activations stay float. It
// is for any architecture; on a base of another method it is a recipe (configs/qera-on-*.json).
#include <charconv>

#include "method/method_steps.h"
#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {
namespace {

constexpr int64_t kRankAt4Bits = 32;
constexpr int64_t kRankBelow = 64;

// Takes `prefix` off the front of `text`, if it is there.
bool take(std::string& text, const std::string& prefix) {
  if (!text.starts_with(prefix)) return false;
  text.erase(0, prefix.size());
  return true;
}

// Takes a number off the front; 0 if there is none.
int64_t take_number(std::string& text) {
  int64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc()) return 0;
  text.erase(0, static_cast<size_t>(end - text.data()));
  return number;
}

// "[gptq:]mxintB", "[gptq:]intB[-gN][-asym]" or "nf4", as the step that rounds to it.
StepConfig base_step(const std::string& base) {
  std::string rest = base;
  const bool gptq = take(rest, "gptq:");
  Json options;
  bool known = true;
  if (take(rest, "mxint")) {
    options = {{"format", "mxint"}, {"bits", take_number(rest)}};
  } else if (!gptq && take(rest, "nf4")) {
    options = {{"format", "nf4"}};
  } else if (take(rest, "int")) {
    options = {{"bits", take_number(rest)}, {"granularity", "channel"}};
    if (take(rest, "-g")) {
      options["granularity"] = "group";
      options["group"] = take_number(rest);
      known = options["group"] > 0;
      options["scales"] = "plain";
    }
    options["symmetric"] = !take(rest, "-asym");
  }
  if (!known || options.is_null() || !rest.empty() || options.value("bits", 4) < 2 ||
      options.value("bits", 4) > 8) {
    throw usage_error("--base", "\"" + base + "\" is not a weight format",
                      suggest(base, {"mxint2", "mxint3", "mxint4", "mxint8", "int4-g128", "int4-g64-asym",
                                     "int3-g64", "int8", "nf4", "gptq:int4-g128", "gptq:mxint3"}));
  }
  return {gptq ? "gptq" : "rtn", options};
}

}  // namespace

std::vector<MethodOption> qera_options() {
  return {
      {"variant", "exact", "exact | approx | lqer | identity | auto",
       "what the low-rank term makes small: the error of the output; that with inputs taken for "
       "uncorrelated; "
       "with weights by their mean magnitude; of the weights alone; the best of them by the output"},
      {"shrinkage", 0.1, "0 to 1", "of the second moment towards its diagonal; exact only"},
      {"rank", "auto", "auto | a rank", "of every correction; auto: 32 at 4 bits and more, else 64"},
      {"ranks", Json::object(), "{PATTERN: rank}", "of the linears that match"},
      {"target_bpw", 0, "0 | bits a weight", "choose ranks to meet it (--target-bpw)"},
      {"rounds", 4, "1 or more", "how often it rounds and solves in turns; the paper: 1"},
      {"stored", "bf16", "bf16 | f16 | int8", "how factors are stored"},
      {"linears", Json::array(), "[PATTERN, ...]", "those that get a correction; empty: all"},
      {"compare", true, "true | false", "report what other variants and bases would have cost"},
  };
}

std::vector<StepConfig> qera_steps(const std::string& base, JsonFields& options) {
  const StepConfig round = base_step(base);
  const int64_t bits = round.options.value("bits", 4);
  const Json rank = options.at("rank");
  Json correction = {{"variant", options.at("variant")},
                     {"rank", rank == "auto" ? Json(bits >= 4 ? kRankAt4Bits : kRankBelow) : rank},
                     {"ranks", options.at("ranks")},
                     {"target_bpw", options.at("target_bpw")},
                     {"rounds", options.at("rounds")},
                     {"rounding", round.name == "gptq" ? "gptq" : "nearest"},
                     {"stored", options.at("stored")},
                     {"linears", options.at("linears")},
                     {"compare", options.at("compare")}};
  const Json shrinkage = options.at("shrinkage");
  if (correction["variant"] == "exact") correction["shrinkage"] = shrinkage;
  return {round, {"low_rank", correction}};
}

}  // namespace ptq
