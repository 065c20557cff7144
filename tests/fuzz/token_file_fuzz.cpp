// Arbitrary bytes as a .npy file: an Error, or ids that are not negative.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <unistd.h>

#include "ptq/base/error.h"
#include "ptq/tokenizer/token_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path =
      (std::filesystem::temp_directory_path() / ("token_file_fuzz." + std::to_string(::getpid()) + ".npy"))
          .string();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    for (const int64_t id : ptq::read_token_file(path, "")) {
      if (id < 0) std::abort();
    }
  } catch (const ptq::Error&) {
  }
  std::filesystem::remove(path);
  return 0;
}
