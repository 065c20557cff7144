// Ids and decoded text of the tokenizers in golden/tokenizer against those of the reference library.
//
// A case file is a JSON object with an array "cases"; a case has "text" and, for each tokenizer NAME (its
// file is NAME.json beside the case file), "ids", "decode" and, where the template adds some,
// "ids_with_special".
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "golden.h"
#include "ptq/base/error.h"
#include "ptq/base/json.h"
#include "ptq/tokenizer/tokenizer.h"

namespace {

namespace fs = std::filesystem;

class Runner {
 public:
  void run_file(const fs::path& path) {
    const ptq::Json document = ptq::read_json_file(path.string());
    // The tokenizers lie in the same folder.
    if (!document.is_object() || !document.contains("cases") || !document["cases"].is_array()) return;
    for (const ptq::Json& test : document["cases"]) {
      const std::string text = test.at("text").get<std::string>();
      for (const auto& [name, expected] : test.items()) {
        if (name == "text") continue;
        if (const ptq::Tokenizer* tokenizer = find(path.parent_path(), name))
          check(*tokenizer, name, text, expected);
      }
    }
  }

  int finish() const {
    for (const std::string& name : skipped_) std::printf("skipped %s\n", name.c_str());
    std::printf("ran %zu cases with %zu tokenizers, %zu failed\n", ran_, tokenizers_.size(), failed_);
    if (ran_ == 0) std::printf("no case was found\n");
    return ran_ == 0 || failed_ > 0 ? 1 : 0;
  }

 private:
  const ptq::Tokenizer* find(const fs::path& directory, const std::string& name) {
    const std::string path = (directory / (name + ".json")).string();
    if (const auto found = tokenizers_.find(path); found != tokenizers_.end()) return found->second.get();
    if (!fs::exists(path)) {
      skipped_.insert(name);
      return nullptr;
    }
    return (tokenizers_[path] = ptq::Tokenizer::from_file(path)).get();
  }

  void check(const ptq::Tokenizer& tokenizer, const std::string& name, const std::string& text,
             const ptq::Json& expected) {
    ++ran_;
    const auto ids = expected.at("ids").get<std::vector<int64_t>>();
    const auto special = expected.contains("ids_with_special")
                             ? expected["ids_with_special"].get<std::vector<int64_t>>()
                             : ids;
    const char* wrong = nullptr;
    if (tokenizer.encode(text, false) != ids) wrong = "ids";
    if (tokenizer.encode(text, true) != special) wrong = "ids with special tokens";
    if (tokenizer.decode(ids) != expected.at("decode").get<std::string>()) wrong = "decoded text";
    if (wrong == nullptr) return;
    ++failed_;
    std::printf("FAILED %s: %s of %s\n", name.c_str(), wrong, ptq::Json(text).dump().c_str());
  }

  std::map<std::string, std::unique_ptr<ptq::Tokenizer>> tokenizers_;
  std::set<std::string> skipped_;
  size_t ran_ = 0;
  size_t failed_ = 0;
};

}  // namespace

int main() {
  try {
    Runner runner;
    for (const fs::path& path : ptq::golden::case_files(ptq::golden::directory("tokenizer")))
      runner.run_file(path);
    return runner.finish();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
