// What llama.cpp calls the architectures, tensors and sizes of ours, as data that both directions use.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "export/gguf/file.h"
#include "export/gguf/writer.h"
#include "ptq/artifact/open_model.h"
#include "ptq/base/json.h"

namespace ptq {

// What is done to a tensor on its way into a GGUF.
enum class GgufChange {
  kNone,
  // Rows of a head: channel i and i + D/2, which are rotated as a pair, become neighbours.
  kQueryRows,
  kKeyRows,
  kJoinedRows,  // Of heads of queries, keys and values in turns: all queries first, then all keys
  kDecay,       // A_log -> -exp(A_log)
  kHeadDecay,   // the same of [heads], which becomes [heads, 1]
  kHeads,       // [heads] -> [heads, 1]
  kGroups,      // [E] -> [groups, E / groups]
  kGain,        // g - 1 -> g
  kSqueeze      // [E, 1, W] -> [E, W]
};

struct GgufName {
  const char* own;   // after the block's prefix, or the whole name
  const char* gguf;  // after "blk.N.", or the whole name
  GgufChange change = GgufChange::kNone;
};

// A value of the configuration.
struct GgufKey {
  enum class Kind { kInteger, kReal, kFlag };
  const char* key;     // after the architecture's name and a dot
  const char* config;  // in config.json
  Kind kind = Kind::kInteger;
  bool is_read = true;  // false: the same number is read under another key, or shapes tell it
  // What a configuration that leaves a number out means. None: whole_config() has it.
  std::optional<double> otherwise = {};
};

// A number that the configuration may leave out, as a size of a tensor of the first block.
struct GgufSize {
  const char* config;
  const char* gguf;
  int64_t dim;
};

struct GgufArchitecture {
  const char* name = "";                // general.architecture
  const char* own = "";                 // the row of architectures()
  const char* model_class = "";         // in "architectures" of a configuration
  std::vector<const char*> types = {};  // in its "model_type", the usual one first
  const char* blocks = "";              // what the names of our blocks' tensors begin with
  std::vector<GgufName> block = {}, outer = {};
  std::vector<GgufKey> keys = {};
  std::vector<GgufSize> sizes = {};
  // True in a configuration if a tensor is there: of biases a GGUF's keys say nothing.
  std::vector<std::pair<const char*, const char*>> flags = {};
  std::vector<std::pair<const char*, uint32_t>> constants = {};  // written, and not read
  Json config = {};                                              // what every configuration of it says
  // A key that is true in files of this row, and not in those of another of the same name. Null: none.
  const char* variant = nullptr;
  double usual_rotary_part = 1;          // of a head's channels, where a configuration does not say it
  bool usual_parallel_residual = false;  // the same of use_parallel_residual
  // Throws Error for a configuration that llama.cpp computes otherwise, or adds a note if it hardly does.
  // Null: there is none.
  void (*check)(const Json& config, std::vector<std::string>& notes) = nullptr;
  // Adds to a configuration made from keys what follows from them. Null: nothing.
  void (*complete)(Json& config) = nullptr;
};

const std::vector<GgufArchitecture>& gguf_architectures();

// The row of general.architecture. Throws Error.
const GgufArchitecture& find_gguf_architecture(const GgufFile& file, const std::string& where);
// The row of a model. Throws Error if there is none.
const GgufArchitecture& find_gguf_architecture(const OpenModel& open);

// "blk.3.attn_q.weight" for our name; nullptr in `row` if it has none.
struct GgufPlace {
  std::string name;
  const GgufName* row = nullptr;
};
GgufPlace gguf_place(const GgufArchitecture& architecture, const std::string& own);
// Our name for a GGUF's; "" if it has none.
GgufPlace own_place(const GgufArchitecture& architecture, const std::string& gguf);

// The configuration with every number that the keys need: those it leaves out are taken from shapes.
Json whole_config(const OpenModel& open, const GgufArchitecture& architecture);

// Adds the architecture's keys. Throws Error for what a GGUF cannot say of the model, such as a rope type.
// What the reader of the result should know goes into `notes`.
void add_architecture(const GgufArchitecture& architecture, const Json& config, GgufMetadata& metadata,
                      std::vector<std::string>& notes);
// A configuration of ours from a GGUF's keys. Throws Error for a key that changes what the model computes and
// is not known.
Json config_of(const GgufArchitecture& architecture, const GgufFile& file, const std::string& where);

// The shape in a file of a tensor of ours, and ours of one in a file.
std::vector<int64_t> gguf_shape(GgufChange change, std::vector<int64_t> shape, const Json& config);
std::vector<int64_t> own_shape(GgufChange change, std::vector<int64_t> shape);

// The row of `bytes` [rows, ...] that becomes row i, for a change of rows; undefined for others.
Tensor gguf_rows(GgufChange change, const Json& config, int64_t rows, bool inverse);

}  // namespace ptq
