// quantize export DIR: what is quantized, by this program or another, in the form that another program loads.
#include "commands.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/output.h"
#include "ptq/export/formats.h"

namespace ptq {
namespace {

void expect_holds(const FormatEntry& format, const OpenModel& shapes, const ExportTarget& target) {
  if (!shapes.quantized && !format.exports_floats) {
    throw Error(shapes.checkpoint->path(),
                std::string("is a float checkpoint; an export as ") + format.name + " needs a quantized one");
  }
  const std::string reason = format.why_not(shapes, target);
  if (!reason.empty()) throw Error("", reason);
}

// What is to be exported, when headers and sites have shown that the format holds it.
OpenModel open_exportable(const std::string& path, const FormatEntry& format, const ExportTarget& target,
                          const CommonOptions& common) {
  const FormatEntry* const foreign = find_foreign_format(path);
  if (foreign == &format)
    throw Error(path, std::string("is in the format ") + format.name + " already", "another --format");
  if (foreign != nullptr) {
    expect_holds(format, foreign->open(path, common.checkpoint, at::kMeta), target);
    return foreign->open(path, common.checkpoint, common.torch_device());
  }
  std::unique_ptr<Checkpoint> checkpoint = open_checkpoint(path, common.checkpoint);
  {
    OpenModel shapes = open_model(std::move(checkpoint), at::kMeta);
    expect_holds(format, shapes, target);
    checkpoint = std::move(shapes.checkpoint);
  }
  return open_model(std::move(checkpoint), common.torch_device());
}

}  // namespace

void export_command(const ExportOptions& options, const CommonOptions& common) {
  const FormatEntry& format = find_format(options.format);
  ExportTarget target;
  target.options = export_options(format, options.given);
  target.output = options.output.empty()
                      ? output_here(last_name(options.model) + format.suffix, options.model)
                      : options.output;
  const OpenModel artifact = open_exportable(options.model, format, target, common);
  expect_absent(target.output);
  const ExportResult done = format.write(artifact, target);
  if (!common.json) {
    print(done.text);
    return;
  }
  Json json = {{"format", format.name}};
  json.update(done.json);
  print(json.dump(1) + "\n");
}

}  // namespace ptq
