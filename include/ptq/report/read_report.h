// A report.json read back. It comes from a CI artifact, another machine or another person: nothing in it is
// trusted.
#pragma once

#include <string>

#include "ptq/report/report.h"

namespace ptq {

struct StoredReport {
  std::string path;  // of the file
  // The document. Control characters in its strings and keys are replaced by blanks, so that a name cannot
  // write commands into a terminal or a CI log.
  Json json;
  // The same as rows. The relative_error of a row is its error_share; what is null or absent is nullopt, NaN
  // (of a plain double), 0 or empty. Integers are at most 9e15 in magnitude.
  Report report;
};

// Reads `path`: a report, or a directory with a report.json. Throws Error if it is larger than 64 MB, is not
// strict JSON, has another schema_version (the message says which program reads it), a value of a wrong type,
// or two layers of one name. Keys that it does not know are left alone: a later program may have added them.
StoredReport read_report(const std::string& path);

// The same for a document that is already parsed; `where` names it in messages.
StoredReport parse_report(const Json& json, const std::string& where);

}  // namespace ptq
