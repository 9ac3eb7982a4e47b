/*
 * The seam on the command line, for tests/io/test_p256_openssl.py: `generate` prints key and point, `sign KEY HASH` DER, `verify POINT HASH
 * DER` valid or invalid, `agree KEY POINT` the secret. All in hexadecimal.
 */
#include <stdio.h>

#include "common/p256/p256.h"
#include "tests/unit/hex.h"

static void print(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		(void)printf("%02x", data[i]);
	(void)printf("\n");
}

static bool sign(char **args)
{
	uint8_t key[P256_KEY_BYTES], hash[64], raw[P256_SIGNATURE_BYTES], der[P256_DER_MAX];
	bool ok = unhex(args[0], key, sizeof(key)) == sizeof(key) &&
		  p256_sign(key, hash, unhex(args[1], hash, sizeof(hash)), raw);
	if (ok)
		print(der, p256_der_write(raw, der));
	return ok;
}

static bool verify(char **args)
{
	uint8_t point[P256_POINT_BYTES], hash[64], raw[P256_SIGNATURE_BYTES], der[128];
	bool ok = unhex(args[0], point, sizeof(point)) == sizeof(point) &&
		  p256_der_read(der, unhex(args[2], der, sizeof(der)), raw) &&
		  p256_verify(point, hash, unhex(args[1], hash, sizeof(hash)), raw);
	(void)printf("%s\n", ok ? "valid" : "invalid");
	return true;
}

static bool agree(char **args)
{
	uint8_t key[P256_KEY_BYTES], point[P256_POINT_BYTES], out[P256_POINT_BYTES];
	bool ok = unhex(args[0], key, sizeof(key)) == sizeof(key) &&
		  unhex(args[1], point, sizeof(point)) == sizeof(point) && p256_multiply(key, point, out);
	if (ok)
		print(out + 1, 32);
	return ok;
}

static bool generate(char **args)
{
	uint8_t key[P256_KEY_BYTES], point[P256_POINT_BYTES];
	(void)args;
	bool ok = p256_generate(key, point);
	print(key, sizeof(key));
	print(point, sizeof(point));
	return ok;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int args;
		bool (*run)(char **args);
	} rows[] = {{"generate", 0, generate}, {"sign", 2, sign}, {"verify", 3, verify}, {"agree", 2, agree}};
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (argc == rows[i].args + 2 && strcmp(argv[1], rows[i].name) == 0)
			return rows[i].run(argv + 2) ? 0 : 1;
	(void)fprintf(stderr, "usage: p256_tool generate | sign KEY HASH | verify POINT HASH DER | agree KEY POINT\n");
	return 2;
}
