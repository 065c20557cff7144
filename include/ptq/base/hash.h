// SHA-256, for SHA256SUMS and for the names of sources in the report.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace ptq {

// A hash fed piece by piece, so that a file can be hashed while it is written.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> bytes);
  // 64 lower-case hexadecimal digits. Ends the hash: nothing may be called after it.
  std::string hex();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_hex(std::span<const std::byte> bytes);

// Reads the file in pieces: memory does not grow with its size. Throws Error if it cannot be read, and
// "interrupted" after a signal (see interrupt.h).
std::string sha256_file(const std::string& path);

}  // namespace ptq
