// Arbitrary bytes as a recipe: an Error, or a recipe whose long form is read as the same.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "ptq/base/error.h"
#include "ptq/method/recipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const ptq::Json json = ptq::parse_json({reinterpret_cast<const char*>(data), size}, "input");
    const ptq::Recipe recipe = ptq::read_recipe(json, "input");
    if (ptq::read_recipe(recipe.to_json(), "output").to_json() != recipe.to_json()) std::abort();
  } catch (const ptq::Error&) {
  }
  return 0;
}
