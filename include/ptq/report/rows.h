// The rows of a report that is not finished, kept between the runs that write it.
#pragma once

#include "ptq/base/json.h"
#include "ptq/report/report.h"

namespace ptq {

// What a run adds to the report block by block: layers, sites, blocks, fallbacks, decisions and warnings,
// every member of every row, numbers to the last bit. Not for people; to_json() is.
Json rows_to_json(const Report& report);

// Replaces those parts of `report`. Throws Error, naming `where`, if `json` is not what rows_to_json() makes.
void rows_from_json(const Json& json, const std::string& where, Report& report);

}  // namespace ptq
