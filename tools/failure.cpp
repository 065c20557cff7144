#include "failure.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <new>

namespace ptq {
namespace {

Error bug(const std::string& what) {
  return {"", "a bug of this program, please report it: " + what, "", ExitCode::kBug};
}

}  // namespace

Error failure_of_exception() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::filesystem::filesystem_error& error) {
    return passing_error(error.path1().string(), error.code().message());
  } catch (const std::bad_alloc&) {
    return passing_error("", "out of memory",
                         "fewer --samples, a smaller --seq-len, or a machine with more memory");
  } catch (const c10::OutOfMemoryError& error) {
    return passing_error("", std::string("out of memory: ") + error.what_without_backtrace());
  } catch (const c10::Error& error) {
    return bug(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return bug(error.what());
  }
}

}  // namespace ptq
