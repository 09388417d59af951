#!/bin/sh
# Writes, once, an authority for this machine and certificates that it signs: the gateway's and a
# client's. GATEWAY_NAMES are further names of the gateway: "DNS:forecasts.example.org,IP:192.0.2.7".
set -eu
folder=$(dirname "$0")/certs
days=825
umask 077
mkdir -p "$folder"
cd "$folder"

# The extensions of each kind; OpenSSL's own configuration differs from system to system.
cat >openssl.cnf <<CONFIG
[req]
distinguished_name = name
prompt = no
[name]
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[gateway]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, DNS:gateway, IP:127.0.0.1, IP:0:0:0:0:0:0:0:1${GATEWAY_NAMES:+, $GATEWAY_NAMES}
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
authorityKeyIdentifier = keyid
CONFIG

new_key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"; }

if [ ! -e ca.pem ]; then
  new_key ca
  openssl req -x509 -new -key ca.key -sha256 -days "$days" -subj /CN=tidegate \
    -config openssl.cnf -extensions ca -out ca.pem
fi
for name in gateway client; do
  [ ! -e "$name.pem" ] || continue
  new_key "$name"
  openssl req -new -key "$name.key" -subj "/CN=$name" -config openssl.cnf -out "$name.csr"
  openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca.key -set_serial "0x$(openssl rand -hex 16)" \
    -sha256 -days "$days" -extfile openssl.cnf -extensions "$name" -out "$name.pem" 2>/dev/null
  rm "$name.csr"
done
rm openssl.cnf
# Certificates are public; keys stay as the umask has them, 0600.
chmod 644 ./*.pem
