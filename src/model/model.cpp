#include "ptq/model/model.h"

#include "ptq/base/error.h"
#include "ptq/base/suggest.h"

namespace ptq {

Site& Block::site(const std::string& name) {
  std::vector<std::string> names;
  for (Site* site : sites()) {
    if (site->name == name) return *site;
    names.push_back(site->name);
  }
  throw Error(prefix(), "no activation site \"" + name + "\"", suggest(name, names));
}

}  // namespace ptq
