// JSON that is read event by event into flat vectors: headers of safetensors files and shard indexes.
//
// A document object model of a hostile header takes a gigabyte and keeps the last of two equal keys without a
// word; here memory is bounded by what the handler keeps.
#pragma once

#include <string>
#include <string_view>

#include "ptq/base/json.h"

namespace ptq {

// The parser beneath copies each token twice while it grows.
constexpr size_t kMaxJsonTokenBytes = size_t{16} << 20;
constexpr size_t kMaxJsonValues = 8'000'000;

// Tracks where in the document an event is; formats override value() and, if they care, opened() and
// closed(). path() holds the keys of the objects around the event, "" for an array.
class JsonHandler : public nlohmann::json_sax<Json> {
 public:
  // `where` is for messages.
  JsonHandler(std::string where, size_t max_depth) : where_(std::move(where)), max_depth_(max_depth) {}

  bool null() final { return scalar(nullptr); }
  bool boolean(bool flag) final { return scalar(flag); }
  bool number_integer(number_integer_t number) final { return scalar(number); }
  bool number_unsigned(number_unsigned_t number) final { return scalar(number); }
  bool number_float(number_float_t number, const string_t&) final { return scalar(number); }
  bool string(string_t& text) final { return scalar(std::move(text)); }
  bool binary(binary_t&) final { return false; }
  bool start_object(std::size_t) final { return open(/*is_array=*/false); }
  bool start_array(std::size_t) final { return open(/*is_array=*/true); }
  bool end_object() final { return close(); }
  bool end_array() final { return close(); }
  bool key(string_t& name) final;
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) final;

 protected:
  // How many objects and arrays are open. 1 inside the outermost.
  size_t depth() const { return frames_.size(); }
  // The key at a depth, counted from 1: key_at(1) is one of the outermost object.
  const std::string& key_at(size_t level) const { return frames_[level - 1].key; }
  const std::string& where() const { return where_; }

  virtual void value(Json scalar) = 0;
  virtual void key_seen() {}
  virtual void opened(bool is_array) = 0;
  virtual void closed() {}

 private:
  struct Frame {
    std::string key;
    bool is_array;
  };
  bool scalar(Json value_);
  bool open(bool is_array);
  bool close();

  std::string where_;
  size_t max_depth_;
  std::vector<Frame> frames_;
};

// Parses one document. Throws Error on a syntax error, invalid UTF-8, text after the document, nesting beyond
// the handler's depth, or a limit above exceeded.
void scan_json(std::string_view text, JsonHandler& handler, const std::string& where);

}  // namespace ptq
