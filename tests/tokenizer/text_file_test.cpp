// Documents from text, JSONL and JSON files, packed or in UTF-16, and files that are no text.
#include "ptq/tokenizer/text_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "../base/expect_error.h"
#include "../base/temp_directory.h"
#include "ptq/base/stream_input.h"

namespace ptq {
namespace {

using Strings = std::vector<std::string>;
using std::string_literals::operator""s;

Strings documents_of(const std::string& name, const std::string& content, const std::string& field = "") {
  const TempDirectory directory;
  directory.write(name, content);
  return read_documents({directory / name, field});
}

// What read() gives, part by part, and the remarks.
struct Joined {
  std::string text;
  Strings remarks;
};

Joined read_joined(const std::string& name, const std::string& content) {
  const TempDirectory directory;
  directory.write(name, content);
  TextFile file({directory / name});
  Joined joined;
  while (file.read(joined.text)) continue;
  for (const std::string& remark : file.remarks())
    joined.remarks.push_back(remark.substr(remark.find(": ") + 2));
  return joined;
}

std::string error_of(const std::string& name, const std::string& content, const std::string& field = "") {
  try {
    documents_of(name, content, field);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), ExitCode::kFailed);
    return error.what();
  }
  ADD_FAILURE() << "no error for " << name;
  return "";
}

void expect_refused(const std::string& name, const std::string& content, const std::string& words) {
  EXPECT_NE(error_of(name, content).find(words), std::string::npos) << error_of(name, content);
}

std::string gzip(const std::string& content) {
  std::string packed(content.size() + 1024, '\0');
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(packed.size() - stream.avail_out);
  deflateEnd(&stream);
  return packed;
}

TEST(TextFile, PlainFileIsOneDocument) {
  EXPECT_EQ(documents_of("a.txt", "a\nb\u00E9\n"), (Strings{"a\nb\u00E9\n"}));
}

TEST(TextFile, EmptyFileIsOneEmptyDocument) {
  EXPECT_EQ(documents_of("a.txt", ""), (Strings{""}));
}

TEST(TextFile, Utf8MarkIsDropped) {
  EXPECT_EQ(documents_of("a.txt", "\xEF\xBB\xBFhe"), (Strings{"he"}));
  EXPECT_EQ(documents_of("a.jsonl", "\xEF\xBB\xBF{\"text\": \"he\"}"), (Strings{"he"}));
}

TEST(TextFile, Utf16WithAMarkIsConverted) {
  EXPECT_EQ(documents_of("a.txt", "\xFF\xFEh\0\xE9\0\x3D\xD8\x00\xDE"s), (Strings{"h\u00E9\U0001F600"}));
  EXPECT_EQ(documents_of("a.txt", "\xFE\xFF\0h\0\xE9\xD8\x3D\xDE\x00"s), (Strings{"h\u00E9\U0001F600"}));
  EXPECT_EQ(read_joined("a.txt", "\xFF\xFEh\0"s).remarks,
            (Strings{"is UTF-16 text, which was converted to UTF-8"}));
}

TEST(TextFile, LongUtf16IsConvertedAcrossParts) {
  std::string utf16 = "\xFF\xFE", utf8;
  for (int i = 0; i < 50'000; ++i) {
    utf16 += "\x3D\xD8\x00\xDEx\0"s;
    utf8 += "\U0001F600x";
  }
  EXPECT_EQ(read_joined("a.txt", utf16).text, utf8);
}

TEST(TextFile, DamagedUtf16IsAnError) {
  expect_refused("a.txt", "\xFF\xFEh\0\xE9"s, "odd number of bytes");
  expect_refused("a.txt", "\xFF\xFEh\0\x3D\xD8h\0"s, "surrogate pair at offset 4");
  expect_refused("a.txt", "\xFF\xFEh\0\x3D\xD8"s, "surrogate pair at offset 4");
}

TEST(TextFile, Utf16WithoutAMarkIsRefusedByName) {
  expect_refused("a.txt", "h\0e\0l\0l\0o\0"s, "UTF-16LE without a byte order mark");
  expect_refused("a.txt", "\0h\0e\0l\0l\0o"s, "UTF-16BE without a byte order mark");
  expect_refused("a.txt", "\xFF\xFE\0\0h\0\0\0"s, "UTF-32");
}

TEST(TextFile, InvalidUtf8IsAnErrorWithItsOffset) {
  expect_refused("a.txt", "caf\xE9 noir", "the byte 0xE9 at offset 3 is not UTF-8");
  expect_refused("a.txt", "caf\xE9 noir", "WINDOWS-1252");
  expect_refused("a.txt", "ends in \xC3", "0xC3 at offset 8");
  expect_refused("a.txt", "\xEF\xBB\xBFx\xFF", "offset 4");
  expect_refused("a.txt", std::string(200'000, 'a') + "\xC3", "offset 200000");
  expect_refused("a.txt", "\x8E\x01\x02\x9A\x9B\x9C", "binary data");
}

TEST(TextFile, CharacterAcrossPartsIsNoError) {
  for (size_t shift = 0; shift < 4; ++shift) {
    std::string text(shift, 'a');
    for (int i = 0; i < 40'000; ++i) text += "\u20AC\U0001F600";
    EXPECT_EQ(read_joined("a.txt", text).text, text);
  }
}

TEST(TextFile, NulIsAnErrorWithItsOffset) {
  expect_refused("a.txt", std::string(100'000, 'a') + "\0bc"s, "NUL byte at offset 100000");
}

TEST(TextFile, BinaryFormatsAreRefusedByName) {
  const std::string bytes = "\x01\x80\0\xFF\xFE"s + std::string(300, '\x90');
  const std::string zip = "PK\x03\x04"s + std::string(26, '\0');
  const std::vector<std::pair<std::string, std::string>> known = {
      {"PAR1" + bytes, "a Parquet file"},
      {"ARROW1\0\0"s + bytes, "an Arrow file"},
      {"\xFF\xFF\xFF\xFF"s + bytes, "an Arrow stream"},
      {"\x93NUMPY\x01\0"s + bytes, "a NumPy array"},
      {zip + "archive/data.pkl" + bytes, "a PyTorch file"},
      {zip + "ids.npy" + bytes, "a NumPy archive"},
      {zip + "a.txt" + bytes, "a zip archive"},
      {"\x80\x02\x8A\x0A" + bytes, "a Python pickle"},
      {"\x28\xB5\x2F\xFD" + bytes, "zstd data"},
      {"\xFD\x37zXZ\0"s + bytes, "xz data"},
      {"BZh91AY&SY" + bytes, "bzip2 data"},
      {"GGUF" + bytes, "a GGUF model"},
      {"\x40\0\0\0\0\0\0\0{\"a\""s, "a safetensors file"},
      {"SQLite format 3\0"s + bytes, "an SQLite database"},
      {"%PDF-1.7\n", "a PDF document"},
      {"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"}};
  for (const auto& [content, what] : known) {
    expect_refused("a.txt", content, "is no text: it seems to be " + what);
    expect_refused("a.jsonl", content, what);
    expect_refused("a.txt.gz", gzip(content), what);
  }
}

TEST(TextFile, TextThatBeginsLikeABinaryFormatIsText) {
  for (const std::string text : {"ORCHIDS are flowers", "PAR1 is a name", "GGUF files", "PK", "BZh91AY"})
    EXPECT_EQ(documents_of("a.txt", text), (Strings{text}));
}

TEST(TextFile, GzipIsUnpackedByItsContent) {
  const std::string lines = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
  EXPECT_EQ(documents_of("a.txt.gz", gzip("one\ntwo")), (Strings{"one\ntwo"}));
  EXPECT_EQ(documents_of("a.jsonl.gz", gzip(lines)), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.JSONL.GZ", gzip(lines)), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.jsonl", gzip(lines)), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.json.gz", gzip(lines)), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.txt.gz", gzip("\xFF\xFEh\0"s)), (Strings{"h"}));
  EXPECT_EQ(read_joined("a.txt.gz", gzip("one")).remarks, (Strings{"is gzip data, which was unpacked"}));
}

TEST(TextFile, NameInTheGzipHeaderCountsWhereThePathHasNone) {
  std::string packed = gzip("{\"text\": \"a\"}");
  packed[3] = 8;
  packed.insert(10, "c4.jsonl\0"s);
  EXPECT_EQ(documents_of("part.gz", packed), (Strings{"a"}));
}

TEST(TextFile, MembersOfAGzipFileFollowEachOther) {
  EXPECT_EQ(documents_of("a.txt.gz", gzip("one ") + gzip("") + gzip("two")), (Strings{"one two"}));
  EXPECT_EQ(documents_of("a.txt.gz", gzip("one ") + std::string(700, '\0')), (Strings{"one "}));
}

TEST(TextFile, DamagedGzipIsAnError) {
  std::string text;
  for (int i = 0; i < 10'000; ++i) text += std::to_string(i * i) + " ";
  const std::string packed = gzip(text);
  expect_refused("a.txt.gz", packed.substr(0, packed.size() / 2), "not complete");
  expect_refused("a.txt.gz", packed.substr(0, packed.size() - 4), "not complete");
  expect_refused("a.txt.gz", packed.substr(0, 5), "not complete");
  expect_refused("a.txt.gz", packed + "garbage", "is not gzip data");
  std::string changed = packed;
  changed[packed.size() - 6] ^= 1;
  expect_refused("a.txt.gz", changed, "damaged");
}

TEST(TextFile, RestOfADamagedFileIsChecked) {
  const TempDirectory directory;
  std::string text = "{\"text\": \"first\"}\n";
  for (int i = 0; i < 30'000; ++i) text += "{\"text\": \"other\"}\n";
  directory.write("a.jsonl", text + "\xE9");
  TextFile file({directory / "a.jsonl"});
  std::string read;
  EXPECT_TRUE(file.read(read));
  EXPECT_EQ(read, "first");
  EXPECT_ERROR(file.check_rest(), ExitCode::kFailed, "is not UTF-8");
}

TEST(TextFile, GzipBombTakesLittleMemoryAndEnds) {
  const std::string million(1 << 20, 'a');
  std::string bomb;
  for (int i = 0; i < 8; ++i) bomb += gzip(million);
  const TempDirectory directory;
  directory.write("a.txt.gz", bomb);
  EXPECT_LT(bomb.size(), 100'000U);
  TextFile file({directory / "a.txt.gz"});
  size_t bytes = 0, longest = 0;
  for (std::string part; file.read(part); part.clear()) {
    bytes += part.size();
    longest = std::max(longest, part.size());
  }
  EXPECT_EQ(bytes, size_t{8} << 20);
  EXPECT_LE(longest, size_t{2} << 20);
}

TEST(TextFile, JsonlFileHasADocumentALine) {
  const std::string lines = "{\"text\": \"a\\nb\", \"id\": 1}\r\n\n  \n{\"text\": \"\"}";
  for (const char* name : {"a.jsonl", "a.JSONL", "a.ndjson", "a.Json"})
    EXPECT_EQ(documents_of(name, lines), (Strings{"a\nb", ""})) << name;
  EXPECT_EQ(read_joined("a.jsonl", lines).remarks, Strings{});
  EXPECT_EQ(read_joined("a.JSONL", lines).remarks, (Strings{"was read as JSON lines, one document a line"}));
}

TEST(TextFile, EmptyJsonlFileHasNoDocuments) {
  EXPECT_EQ(documents_of("a.jsonl", "\n\n"), Strings{});
}

TEST(TextFile, DocumentsAreJoinedByNewlinesAfterTheFirstThatIsNotEmpty) {
  const std::string lines = "{\"text\": \"\"}\n{\"text\": \"a\"}\n{\"text\": \"\"}\n{\"text\": \"b\"}\n";
  EXPECT_EQ(read_joined("a.jsonl", lines).text, "a\n\nb");
}

TEST(TextFile, LineThatIsNoJsonIsAnErrorThatNamesTheLine) {
  expect_refused("a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": }\n", "line 3");
  expect_refused("a.jsonl", "[\"text\"]", "expected an object");
}

TEST(TextFile, LineWithoutTextIsAnErrorThatNamesItsFields) {
  expect_refused("a.jsonl", "{\"url\": 1, \"content\": \"a\"}", "it has the fields \"url\", \"content\"");
  expect_refused("a.jsonl", "{\"url\": 1, \"content\": \"a\"}", "try: --text-field content");
  expect_refused("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}",
                 "try: --text-field messages");
  expect_refused("a.jsonl", "{}", "it has no fields");
  expect_refused("a.jsonl", "{\"text\": 1}", "is number, not a string");
  expect_refused("a.jsonl", "{\"text\": null}", "is null, not a string");
}

TEST(TextFile, OtherFieldIsReadWhereItIsAskedFor) {
  EXPECT_EQ(documents_of("a.jsonl", "{\"text\": 1, \"content\": \"a\"}", "content"), (Strings{"a"}));
  EXPECT_EQ(documents_of("a.json", "[{\"prompt\": \"a\"}, {\"prompt\": \"b\"}]", "prompt"),
            (Strings{"a", "b"}));
}

TEST(TextFile, ChatMessagesAreTheirContentsJoined) {
  const std::string chat =
      "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"x\", \"content\": \"b\"}]}";
  EXPECT_EQ(documents_of("a.jsonl", chat, "messages"), (Strings{"a\nb"}));
  const std::string parts = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}]}]}";
  EXPECT_NE(error_of("a.jsonl", parts, "messages").find("messages[0]: is no text and no chat message"),
            std::string::npos);
}

TEST(TextFile, JsonDocumentIsAListOfTexts) {
  EXPECT_EQ(documents_of("a.json", "[\n {\"text\": \"a\"},\n {\"text\": \"b\"}\n]\n"), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.json", "[\"a\", \"b\"]"), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.json", "{\n\"text\": [\"a\", \"b\"]}"), (Strings{"a", "b"}));
  EXPECT_EQ(documents_of("a.JSON", "{\"text\": \"a\"}"), (Strings{"a"}));
  EXPECT_EQ(documents_of("a.json", "[]"), Strings{});
  EXPECT_EQ(read_joined("a.json", "[\"a\", \"b\"]").remarks,
            (Strings{"was read as a JSON document of 2 texts"}));
}

TEST(TextFile, JsonDocumentOfOtherThingsIsAnError) {
  expect_refused("a.json", "{\"data\": [{\"text\": \"a\"}]}",
                 "has no field \"text\"; it has the field \"data\"");
  expect_refused("a.json", "[1]", "[0]: expected an object");
  expect_refused("a.json", "3", "expected an array of texts");
  expect_refused("a.json", "{\n\"text\": \"a\"", "not valid JSON");
  expect_refused("a.json", " \n", "holds no JSON");
}

TEST(TextFile, JsonLinesInAFileOfAnotherNameAreSaid) {
  const std::string lines = "{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
  const Joined joined = read_joined("a.txt", lines);
  EXPECT_EQ(joined.text, lines);
  ASSERT_EQ(joined.remarks.size(), 1U);
  EXPECT_NE(joined.remarks[0].find(".jsonl"), std::string::npos);
  EXPECT_EQ(read_joined("a.txt", "{braces}\n").remarks, Strings{});
}

TEST(TextFile, ContentOfAPipeTakesThePlaceOfTheFile) {
  const auto content = std::make_shared<const std::string>("{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
  EXPECT_EQ(read_documents({"/dev/stdin", "", content}), (Strings{"a", "b"}));
  EXPECT_EQ(read_documents({"/dev/fd/63", "", std::make_shared<const std::string>("plain")}),
            (Strings{"plain"}));
}

TEST(TextFile, DirectoryIsAnError) {
  const TempDirectory directory;
  EXPECT_ERROR(read_documents({directory.path()}), ExitCode::kFailed, "is a directory");
  EXPECT_ERROR(read_documents({directory / "none.txt"}), ExitCode::kFailed, "cannot open");
}

TEST(StreamInput, PipeIsReadToItsEnd) {
  const TempDirectory directory;
  const std::string path = directory / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_TRUE(is_stream(path));
  const std::string content(300'000, 'x');
  std::thread writer([&] { std::ofstream(path) << content; });
  EXPECT_EQ(read_stream(path, content.size()), content);
  writer.join();
}

TEST(StreamInput, EndlessStreamIsAnError) {
  EXPECT_ERROR(read_stream("/dev/zero", 1 << 20), ExitCode::kFailed, "more than 1048576 bytes");
}

TEST(StreamInput, FileIsNoStream) {
  const TempDirectory directory;
  directory.write("a.txt", "a");
  EXPECT_FALSE(is_stream(directory / "a.txt"));
  EXPECT_FALSE(is_stream(directory.path()));
  EXPECT_EQ(text_of_stream(directory / "a.txt"), nullptr);
}

}  // namespace
}  // namespace ptq
