#include "ptq/report/report.h"

#include "report/write_fields.h"

namespace ptq {

Json to_json(const std::vector<Remark>& remarks) {
  return FieldWriter(Form::kDocument).value(remarks);
}

Json to_json(const Report& report) {
  return FieldWriter(Form::kDocument).value(report);
}

}  // namespace ptq
