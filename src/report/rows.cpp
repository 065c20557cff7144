#include "ptq/report/rows.h"

#include "report/read_fields.h"
#include "report/write_fields.h"

namespace ptq {
namespace {

// What grows while the run goes on.
template <typename R>
struct KeptOf {
  R& report;
};

template <typename R>
void visit_fields(const KeptOf<R>& kept, const auto& visit) {
  visit_rows(kept.report, visit);
  visit("warnings", kept.report.warnings);
}

}  // namespace

Json rows_to_json(const Report& report) {
  return FieldWriter(Form::kExact).value(KeptOf{report});
}

void rows_from_json(const Json& json, const std::string& where, Report& report) {
  JsonFields fields(json, where);
  FieldReader(Form::kExact).read_fields(fields, KeptOf{report});
}

}  // namespace ptq
