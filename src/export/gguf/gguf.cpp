// GGUF, the files of llama.cpp: a model as one file, and corrections as a LoRA adapter beside it.
//
// Codes that a type of GGUF holds are stored as they are; others are rounded once more, and the result says
// what that cost. What sites do online has no home: activations are not rounded, and a Hadamard transform is
// undone in the weights that read it.
#include <filesystem>

#include "export/gguf/conversion.h"
#include "export/gguf/source.h"
#include "export/gguf/tokenizer.h"
#include "export/rows.h"
#include "export/weights_plan.h"
#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/report/report.h"

namespace ptq {
namespace {

constexpr uint32_t kQuantizationVersion = 2;  // of ggml's block layouts

std::string adapter_path(const std::string& output) {
  const std::filesystem::path path(output);
  return (path.parent_path() / (path.stem().string() + "-lora.gguf")).string();
}

GgufTypes types_of(const ExportTarget& target) {
  const auto find = [&](const char* option) {
    return find_ggml_type(std::string_view(target.options.at(option)));
  };
  return {find("type"), find("outtype")};
}

GgufTokenizer tokenizer_of(const OpenModel& open, const Json& config, const ExportTarget& target) {
  const bool wanted = target.options.at("tokenizer") != "none";
  return gguf_tokenizer(open.checkpoint->directory(), config, open.model->vocab_size(), wanted);
}

std::string why_not_gguf(const OpenModel& open, const ExportTarget& target) {
  return reason_against([&] {
    const GgufConversion conversion(open, types_of(target));
    GgufMetadata metadata;
    std::vector<std::string> notes;
    add_architecture(conversion.architecture(), conversion.config(), metadata, notes);
    tokenizer_of(open, conversion.config(), target);
  });
}

GgufMetadata base_metadata(const GgufConversion& conversion, const GgufTokenizer& tokenizer,
                           const std::string& output, std::vector<std::string>& notes) {
  GgufMetadata metadata;
  metadata.add("general.architecture", conversion.architecture().name);
  metadata.add("general.type", "model");
  metadata.add("general.name", std::filesystem::path(output).stem().string());
  metadata.add("general.file_type", conversion.main_type().file_type);
  metadata.add("general.quantization_version", kQuantizationVersion);
  add_architecture(conversion.architecture(), conversion.config(), metadata, notes);
  metadata.add(tokenizer.metadata);
  return metadata;
}

GgufMetadata adapter_metadata(const GgufConversion& conversion) {
  GgufMetadata metadata;
  metadata.add("general.architecture", conversion.architecture().name);
  metadata.add("general.type", "adapter");
  metadata.add("adapter.type", "lora");
  // The factor is alpha / rank.
  metadata.add("adapter.lora.alpha", static_cast<float>(conversion.rank()));
  return metadata;
}

Json types_json(const GgufConversion& conversion) {
  Json types = Json::object();
  for (const auto& [name, tally] : conversion.tallies()) {
    const bool exact = tally.exact == tally.tensors;
    types[name] = {{"tensors", tally.tensors},
                   {"bytes", tally.bytes},
                   {"exact", tally.exact},
                   {"other_rows", tally.other_rows},
                   {"sqnr_db", exact ? Json(nullptr) : Json(tally.sqnr_db())}};
  }
  return types;
}

std::string types_text(const GgufConversion& conversion) {
  std::string text;
  for (const auto& [name, tally] : conversion.tallies()) {
    text += "  " + name + ": " + count_text(tally.tensors, "tensor") + ", " + format_bytes(tally.bytes);
    if (tally.exact == tally.tensors) {
      text += ", exact";
    } else {
      if (tally.exact > 0) text += ", " + std::to_string(tally.exact) + " exact, the others rounded";
      if (tally.exact == 0) text += ", rounded";
      text += " at " + format_number(tally.sqnr_db(), 2) + " dB";
    }
    if (tally.other_rows > 0)
      text +=
          "; " + std::to_string(tally.other_rows) + " for rows that do not fit the blocks of the type wanted";
    text += "\n";
  }
  return text;
}

std::vector<std::string> notes_of(const GgufConversion& conversion, std::vector<std::string> notes) {
  if (conversion.sites_that_round() > 0) {
    notes.push_back("activations are not rounded: the quantizers of " +
                    count_text(conversion.sites_that_round(), "site") + " have no place in a GGUF");
  }
  if (conversion.undone_transforms() > 0) {
    notes.push_back("the online Hadamard transform before " +
                    count_text(conversion.undone_transforms(), "linear") +
                    " is undone, and the weights are rounded again");
  }
  return notes;
}

ExportResult result_of(const GgufConversion& conversion, const GgufTokenizer& tokenizer,
                       const std::string& output, int64_t bytes, const std::vector<std::string>& notes) {
  Json json = {{"output", output},
               {"architecture", conversion.architecture().name},
               {"bytes", bytes},
               {"types", types_json(conversion)},
               {"tokenizer", tokenizer.model},
               {"adapter", nullptr},
               {"sites_not_rounded", conversion.sites_that_round()},
               {"undone_transforms", conversion.undone_transforms()},
               {"notes", notes}};
  std::string text = output + ": " + conversion.architecture().name + " for llama.cpp, " +
                     format_bytes(bytes) + "\n" + types_text(conversion);
  if (conversion.rank() > 0) {
    json["adapter"] = adapter_path(output);
    text += adapter_path(output) + ": the corrections, a LoRA adapter of rank " +
            std::to_string(conversion.rank()) + " (llama-cli --lora)\n";
  }
  for (const std::string& note : notes) text += "note: " + note + "\n";
  return {json, text};
}

ExportResult write_gguf(const OpenModel& open, const ExportTarget& target) {
  const std::string output = std::filesystem::path(target.output).lexically_normal().string();
  GgufConversion conversion(open, types_of(target));
  if (conversion.rank() > 0) expect_absent(adapter_path(output));
  const GgufTokenizer tokenizer = tokenizer_of(open, conversion.config(), target);
  std::vector<std::string> notes = tokenizer.notes;
  GgufWriter base(output, base_metadata(conversion, tokenizer, output, notes), conversion.tensors());
  conversion.convert([&](const Tensor& bytes) { base.add(bytes); });
  if (conversion.rank() > 0) {
    GgufWriter adapter(adapter_path(output), adapter_metadata(conversion), conversion.adapter_tensors());
    conversion.convert_adapter([&](const Tensor& values) { adapter.add(values); });
    adapter.commit();
  }
  base.commit();
  return result_of(conversion, tokenizer, output, base.bytes(), notes_of(conversion, std::move(notes)));
}

bool is_gguf_at(const std::string& path) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed) || std::filesystem::file_size(path, failed) < 4)
    return false;
  try {
    const std::shared_ptr<MappedFile> file = MappedFile::open(path, /*use_mmap=*/false);
    std::byte begin[4];
    file->read_into(0, begin);
    return looks_like_gguf(begin);
  } catch (const Error&) {
    return false;  // who opens it says what is wrong
  }
}

OpenModel open_gguf(const std::string& path, const CheckpointOptions& options, at::Device device) {
  auto checkpoint = std::make_unique<GgufCheckpoint>(path, options);
  auto source = std::make_unique<GgufSource>(*checkpoint, device);
  expect_all_read(find_architecture(*source, path), *source, path);
  const bool quantized = source->quantized();
  const GgufCheckpoint* file = checkpoint.get();
  OpenModel open = assemble_model(std::move(checkpoint), std::move(source), quantized);
  open.tokenizer = [file] { return tokenizer_json_of(file->file(), file->path()); };
  return open;
}

// With the default options.
StoredForm stored(const OpenModel& open) {
  const GgufConversion conversion(open, GgufTypes{});
  std::map<std::string, GgmlType> types;
  for (const GgufTensorHeader& header : conversion.tensors()) types[header.name] = header.type;
  return stored_form(open, [&](const Linear& linear, StoredLinear& one) {
    one.type = ggml_type(types.at(gguf_place(conversion.architecture(), linear.weight.name).name)).name;
    if (const QuantizedTensor* q = linear.weight.quantized()) one.weights = q->scheme;
  });
}

std::vector<std::string> option_names() {
  std::vector<std::string> names = {"auto"};
  for (const GgmlTypeEntry& type : ggml_types()) names.emplace_back(type.option);
  return names;
}

}  // namespace

FormatEntry gguf_format() {
  FormatEntry entry{};
  entry.name = "gguf";
  entry.description = "one file for llama.cpp, and corrections as its LoRA adapter";
  entry.output = "file; an adapter goes beside it, as FILE-lora.gguf";
  entry.suffix = ".gguf";
  entry.options = {
      {"type", "GGMLTYPE",
       "of what is in codes, and of a float model's linears: f32 to q4_0, q4_k (default: as they are)",
       "a type of GGUF", option_names()},
      {"outtype",
       "FLOATS",
       "of matrices left in float, such as the embedding: f32, f16, bf16, q8_0 (default: as stored)",
       "a type for what is left in float",
       {"auto", "f32", "f16", "bf16", "q8_0"}},
      {"tokenizer",
       "TOKENIZER",
       "auto (default), or none: the file takes token ids only",
       "auto or none",
       {"auto", "none"}}};
  entry.exports_floats = true;
  entry.why_not = why_not_gguf;
  entry.write = write_gguf;
  entry.is_at = is_gguf_at;
  entry.open = open_gguf;
  entry.stored_type = GgufCheckpoint::type_of;
  entry.stored = stored;
  return entry;
}

}  // namespace ptq
