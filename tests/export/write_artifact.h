// Artifacts of float models that a test changes block by block.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "ptq/artifact/writer.h"

namespace ptq::testing {

using Change = std::function<void(Block&)>;

// Writes `output`, in place of what is there, of the float model at `model` with `change` done to each block.
// Returns `output`.
inline std::string write_artifact(const std::string& model, const std::string& output, const Change& change) {
  const std::string spool = output + ".spool";
  for (const std::string& path : {output, spool}) std::filesystem::remove_all(path);
  const OpenModel floats = open_model(model, {}, at::kCPU);
  OutputDirectory directory(output, false);
  ArtifactWriter writer(directory, SafetensorsSpool::kOneFile, spool);
  for (int64_t i = 0; i < floats.model->num_blocks(); ++i) {
    const std::unique_ptr<Block> block = floats.model->load_block(i);
    change(*block);
    writer.add(*block);
  }
  for (const Weight* weight : floats.model->outer_weights()) writer.add(*weight);
  writer.finish(floats.model->config(), Json::object());
  directory.commit();
  return output;
}

}  // namespace ptq::testing
