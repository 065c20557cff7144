// What a format of another program holds: its reader's checks on every tensor, and not only on the first that
// is wrong.
#include <algorithm>
#include <filesystem>

#include "ptq/artifact/open_model.h"
#include "verify/parts.h"

namespace ptq {
namespace {

namespace fs = std::filesystem;

// An output of this program has checksums; what other programs wrote has none.
bool has_checksums(const std::string& path) {
  std::error_code failed;
  return fs::is_regular_file(path + "/SHA256SUMS", failed);
}

void count_files(const Checkpoint& checkpoint, Subject& subject) {
  for (const std::string& path : checkpoint.files()) {
    ++subject.counts.files;
    subject.counts.bytes += static_cast<int64_t>(fs::file_size(path));
  }
}

void check_weight(const WeightSource& source, const std::string& name, const ListedSource::Asked& asked,
                  Subject& subject) {
  subject.findings.guard(name, [&] {
    const Weight weight = source.read(name, asked.role, asked.shape);
    const int64_t bad = (~at::isfinite(weight.values())).sum().item<int64_t>();
    if (bad != 0)
      throw Error(name,
                  std::to_string(bad) + " of " + std::to_string(weight.numel()) + " values are not finite");
    ++(weight.quantized() != nullptr ? subject.counts.weights_in_codes : subject.counts.weights_in_float);
  });
}

// Every weight that the architecture has, and then what the blocks do beside them.
void check_model(const OpenModel& open, Subject& subject) {
  const ListedSource shapes(*open.source);
  const std::unique_ptr<Model> listed = open.architecture->make(shapes);
  for (int64_t i = 0; i < listed->num_blocks(); ++i) listed->load_block(i);
  const size_t before = subject.findings.size();
  for (const auto& [name, asked] : shapes.asked()) check_weight(*open.source, name, asked, subject);
  if (subject.findings.size() > before) return;  // a block has the same to say
  for (int64_t i = 0; i < open.model->num_blocks(); ++i) {
    subject.findings.guard("block " + std::to_string(i), [&] {
      const std::unique_ptr<Block> block = open.model->load_block(i);
      const std::vector<Site*> sites = block->sites();
      subject.counts.sites += std::count_if(sites.begin(), sites.end(), [](const Site* site) {
        return site->quantizer.kind != ActivationQuantizer::Kind::kNone;
      });
    });
  }
}

}  // namespace

Verification verify_export(const std::string& path, const FormatEntry& format,
                           const CheckpointOptions& options) {
  Subject subject;
  subject.directory = path;
  subject.counts.has_checksums = has_checksums(path);
  if (subject.counts.has_checksums) check_files(subject);
  subject.findings.guard(path, [&] {
    const OpenModel open = format.open(path, options, at::kCPU);
    subject.counts.tensors = static_cast<int64_t>(open.checkpoint->tensors().size());
    if (!subject.counts.has_checksums) count_files(*open.checkpoint, subject);
    check_model(open, subject);
  });
  subject.counts.findings = subject.findings.list();
  return subject.counts;
}

}  // namespace ptq
