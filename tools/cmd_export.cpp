// quantize export DIR: an artifact in the form that another program loads.
#include <filesystem>

#include "commands.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/output.h"
#include "ptq/base/suggest.h"
#include "ptq/export/peft.h"

namespace ptq {
namespace {

at::ScalarType base_dtype(const std::string& name) {
  if (name == "f32") return at::kFloat;
  if (name == "f16") return at::kHalf;
  if (name == "bf16") return at::kBFloat16;
  throw usage_error("--dtype", "\"" + name + "\" is not a dtype of a base",
                    suggest(name, {"f32", "f16", "bf16"}));
}

}  // namespace

void export_command(const ExportOptions& options, const CommonOptions& common) {
  if (options.format != "peft") {
    throw usage_error("--format", "\"" + options.format + "\" is not an export format",
                      suggest(options.format, {"peft"}));
  }
  const at::ScalarType dtype = base_dtype(options.dtype);
  const std::string output = options.output.empty()
                                 ? output_here(last_name(options.model) + "-peft", options.model)
                                 : options.output;
  const std::string base_path = std::filesystem::path(output).lexically_normal().string() + "-base";
  const OpenModel artifact = open_model(options.model, common.checkpoint, common.torch_device());
  if (!artifact.quantized)
    throw Error(options.model, "is a float checkpoint; an export needs a quantized one");
  for (const std::string& path : {output, base_path}) {
    if (std::filesystem::exists(std::filesystem::symlink_status(path)))
      throw Error(path, "already exists", "another -o, or move it away");
  }
  OutputDirectory adapter(output, /*force=*/false), base(base_path, /*force=*/false);
  const PeftExport done = export_peft(artifact, last_name(base_path), dtype, adapter, base);
  base.commit();
  adapter.commit();
  if (common.json) {
    print(Json({{"format", options.format},
                {"adapter", output},
                {"base", base_path},
                {"rank", done.rank},
                {"modules", done.modules},
                {"folded", done.folded}})
              .dump(1) +
          "\n");
    return;
  }
  print(output + ": a LoRA adapter of rank " + std::to_string(done.rank) + " for " +
        std::to_string(done.modules) + " modules\n" + base_path +
        ": the rounded weights as a float model, its base\n");
  if (done.folded.empty()) return;
  print("folded into the base, because peft puts nothing beside these modules: " + done.folded.front() +
        (done.folded.size() > 1 ? " and " + std::to_string(done.folded.size() - 1) + " more" : "") + "\n");
}

}  // namespace ptq
