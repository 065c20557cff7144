// The byte alphabet of byte-level BPE: every byte has a printable character, so that a vocabulary file is
// text.
//
// Printable ASCII and most of Latin-1 stand for themselves, the other 68 bytes are U+0100 and up in byte
// order: a space is U+0120. The mapping is part of every byte-level vocabulary and never changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ptq {

// The character of a byte, as UTF-8.
const std::string& byte_character(unsigned char byte);
// The byte that a character stands for, if any.
std::optional<unsigned char> byte_of_character(char32_t code);

// Every byte of `text` as its character.
std::string to_byte_characters(std::string_view text);
// Appends the bytes that the characters of `token` stand for; if one of them stands for none, the token's own
// bytes.
void append_from_byte_characters(std::string_view token, std::string& bytes);

}  // namespace ptq
