// The duquant method against runs of its authors' code in golden/duquant.
//
// A case is a NAME.json with a NAME.safetensors. Its sort is the name up to the first `_`, or else what its
// `kind` begins with, so that a further case of a known form runs under any name. Sorts without a row below
// are printed as skipped and do not count.
#include "duquant_cases.h"
#include "ptq/base/json.h"

namespace {

namespace golden = ptq::golden;

struct Sort {
  const char* name;
  const char* kind;
  golden::RunCase run;
};

constexpr Sort kSorts[] = {
    {"d1", "unit vectors", golden::run_duquant_units},
    {"d2", "smoothing", golden::run_smoothing_case},
    {"d3", "tiny Llama", golden::run_llama_case},
    {"d4", "tiny Llama", golden::run_llama_case},
};

// Null if there is none.
golden::RunCase find_case(const std::filesystem::path& path) {
  const std::string name = path.stem().string();
  for (const Sort& sort : kSorts) {
    if (name.substr(0, name.find('_')) == sort.name) return sort.run;
  }
  const ptq::Json json = ptq::read_json_file(path.string());
  for (const Sort& sort : kSorts) {
    if (json.is_object() && json.value("kind", "").starts_with(sort.kind)) return sort.run;
  }
  return nullptr;
}

}  // namespace

int main() {
  return golden::run_cases("duquant", find_case);
}
