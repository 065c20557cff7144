#include "ptq/base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <string_view>

#include "ptq/base/error.h"

namespace ptq {
namespace {

// spdlog's own stderr sink would write into the middle of the progress bar.
class StatusLineSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit StatusLineSink(std::shared_ptr<StatusLine> line) : line_(std::move(line)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t buffer;
    formatter_->format(message, buffer);
    std::string text(buffer.data(), buffer.size());
    const std::string_view color = line_->colors() ? color_of(message.level) : "";
    if (!color.empty() && message.color_range_end > message.color_range_start) {
      text.insert(message.color_range_end, "\x1b[0m");
      text.insert(message.color_range_start, color);
    }
    line_->print(text);
  }
  void flush_() override {}

 private:
  static std::string_view color_of(spdlog::level::level_enum level) {
    switch (level) {
      case spdlog::level::err:
      case spdlog::level::critical:
        return "\x1b[1;31m";
      case spdlog::level::warn:
        return "\x1b[1;33m";
      case spdlog::level::debug:
      case spdlog::level::trace:
        return "\x1b[2m";
      default:
        return "";
    }
  }

  std::shared_ptr<StatusLine> line_;
};

spdlog::level::level_enum level_of(const LogOptions& options) {
  if (options.verbose >= 2) return spdlog::level::trace;
  if (options.verbose == 1) return spdlog::level::debug;
  if (options.rank > 0) return spdlog::level::err;  // the first says the same
  return options.quiet ? spdlog::level::warn : spdlog::level::info;
}

}  // namespace

void setup_logging(const LogOptions& options, std::shared_ptr<StatusLine> line) {
  const spdlog::level::level_enum level = level_of(options);
  auto logger = std::make_shared<spdlog::logger>("quantize");
  auto sink = std::make_shared<StatusLineSink>(std::move(line));
  sink->set_level(level);
  sink->set_pattern(options.rank > 0 ? "rank " + std::to_string(options.rank) + ": %^%l:%$ %v"
                                     : "%^%l:%$ %v");
  logger->sinks().push_back(std::move(sink));
  logger->set_level(level);
  if (!options.file.empty() && options.rank == 0) {
    const spdlog::level::level_enum file_level = std::min(level, spdlog::level::debug);
    try {
      auto file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
      file->set_level(file_level);
      file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
      logger->sinks().push_back(std::move(file));
    } catch (const spdlog::spdlog_ex& error) {
      throw Error(options.file, std::string("cannot open the log file: ") + error.what());
    }
    logger->set_level(file_level);
    logger->flush_on(spdlog::level::info);
  }
  spdlog::set_default_logger(std::move(logger));
}

std::shared_ptr<StatusLine> setup_logging(const LogOptions& options) {
  auto line = std::make_shared<StatusLine>();
  setup_logging(options, line);
  return line;
}

}  // namespace ptq
