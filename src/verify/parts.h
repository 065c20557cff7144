// What the parts of the verifier share. It decodes by format.h's page alone, so that a mistake of the writer
// or of the reader shows; from model/ it takes which tensors an architecture has, and how its sites hang
// together.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ptq/base/error.h"
#include "ptq/base/file.h"
#include "ptq/base/json.h"
#include "ptq/model/listed_source.h"
#include "ptq/model/model.h"
#include "ptq/verify/verify.h"

namespace ptq {

class Findings {
 public:
  void add(const std::string& where, const std::string& what) { list_.push_back({where, what}); }
  size_t size() const { return list_.size(); }
  const std::vector<Finding>& list() const { return list_; }

  // Runs `body`; an Error that it throws is a finding. Returns whether it came to its end.
  template <typename Body>
  bool guard(const std::string& where, const Body& body) {
    try {
      body();
      return true;
    } catch (const Error& error) {
      if (error.exit_code() == ExitCode::kInterrupted) throw;
      add(where, error.what());
      return false;
    }
  }

 private:
  std::vector<Finding> list_;
};

struct ArtifactTensor {
  std::string name, file, dtype;
  std::vector<int64_t> shape;
  int64_t values = 0;
  std::shared_ptr<MappedFile> mapping;
  size_t offset = 0;  // in the file
  size_t bytes = 0;

  const std::byte* data() const { return mapping->bytes().data() + offset; }
  void drop() const { mapping->drop(offset, bytes); }
};

// The output under verification, as far as it could be read.
struct Subject {
  std::string directory;
  Findings findings;
  Verification counts;
  std::vector<std::string> files;                 // regular ones, sorted
  Json report, config, quantization;              // null where they are missing or malformed
  std::map<std::string, ArtifactTensor> tensors;  // by name
};

// files.cpp: what lies in the directory, and SHA256SUMS.
void check_files(Subject& subject);

// tensors.cpp: the safetensors files, their structure and their index. Fills `tensors`.
void read_weight_files(Subject& subject);
// The tensor of that name, which is added to `used`; null, with a finding, if there is none.
const ArtifactTensor* find_tensor(const std::map<std::string, ArtifactTensor>& tensors,
                                  const std::string& name, std::vector<std::string>& used,
                                  Findings& findings);
// Copies to float32. REQUIRES: dtype F32, F16 or BF16.
void read_floats(const ArtifactTensor& tensor, int64_t first, int64_t count, float* out);
// A float of `dtype` at `bytes`.
float float_at(const std::string& dtype, const std::byte* bytes);

// corrections.cpp: low-rank terms.
//
// The entry "corrections" of quantization_config; an empty object if there is none.
const Json& corrections_of(const Subject& subject);
// Names of the tensors that corrections consist of, as far as they are stored.
std::vector<std::string> correction_tensors(const Subject& subject);
// Checks form and values of the correction of a linear, if it has one, and adds its tensors to `used`.
void check_correction(Subject& subject, const Linear& linear, std::vector<std::string>& used);

// Bytes of a packed row of `columns` codes.
int64_t packed_bytes(int64_t columns, int bits);

// decoder.cpp: one weight in codes.
class WeightDecoder {
 public:
  // `scheme` is its entry of quantization_config. Checks form and values of every tensor that it consists of,
  // and adds their names to `used`; nullopt, with findings, if it cannot be decoded.
  static std::optional<WeightDecoder> open(Subject& subject, const std::string& name, const Json& scheme,
                                           const std::vector<int64_t>& shape, std::vector<std::string>& used);

  // The same without a word: what is wrong was found before.
  static std::optional<WeightDecoder> reopen(const Subject& subject, const std::string& name,
                                             const Json& scheme, const std::vector<int64_t>& shape);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  // The largest |code - zero|.
  double reach() const { return zeros_ == nullptr ? 1 << (bits_ - 1) : 1 << bits_; }
  bool half_scales() const { return scales_->dtype == "F16"; }
  // The values that row r stands for, and the step of each: [columns] each.
  void row(int64_t r, float* values, float* steps) const;
  void drop() const;

 private:
  enum class Format { kInteger, kMxint, kNf4 };

  // The bits of a packed code.
  int field(int64_t r, int64_t c) const;
  int code(int64_t r, int64_t c) const;
  // How far apart the values around a code lie, in scales.
  float step_of(int code) const;
  float scale(int64_t index) const;
  int zero(int64_t index) const;
  int64_t scale_index(int64_t r, int64_t c) const;
  bool read_forms(const std::map<std::string, ArtifactTensor>& tensors, const std::string& name,
                  const Json& scheme, const std::vector<int64_t>& shape, std::vector<std::string>& used,
                  Findings& findings);
  void check_values(Findings& findings) const;

  int64_t rows_ = 0, columns_ = 0;
  Format format_ = Format::kInteger;
  int bits_ = 8;
  bool packed_ = false;
  int64_t group_ = 0;  // 0: one scale a row, or one for all
  bool per_tensor_ = false;
  const ArtifactTensor* codes_ = nullptr;
  const ArtifactTensor* scales_ = nullptr;  // MXINT: the exponents
  const ArtifactTensor* zeros_ = nullptr;   // null if symmetric
};

// config.cpp: quantization_config against the tensors and the architecture's list.
//
// What one block's sites hold.
struct SiteForm {
  Transform transform;
  Tensor smooth;  // [channels] float32; undefined: none
};

struct Listing {
  std::string architecture;
  int64_t num_blocks = 0;
  std::map<std::string, ListedSource::Asked> weights;  // that the architecture asks for, by name
  std::map<std::string, std::string> weight_of_layer;  // a linear's name -> its weight's
  std::map<std::string, SiteForm> sites;               // by their key, for those that the configuration has
};

// Whether the format's version lists every site, and every key of an entry.
bool lists_all(const Subject& subject);

// sites.cpp: checks the entry of a site and its tensors, which are added to `used`, and adds its form
// to the listing.
void check_site(Subject& subject, Block& block, const Site& site, Listing& listing,
                std::vector<std::string>& used);

// Checks everything that the output alone can tell; nullopt if too much is missing to list its weights.
std::optional<Listing> check_contents(Subject& subject);

// report.cpp: report.json against the schema, the files, and quantization_config.
void read_documents(Subject& subject);
void check_report(Subject& subject, const std::optional<Listing>& listing);

// source.cpp
void check_source(Subject& subject, const Listing& listing, const std::string& source,
                  const CheckpointOptions& options);

}  // namespace ptq
