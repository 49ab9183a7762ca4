# Runs inside the unpacked root, with namespaces of its own, after the packages' files are in place: does what their
# scripts would do on an installed system, as far as Neutron needs it, and prepares a database.
set -eu

mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev
mkdir /dev/shm
for device in null:3 zero:5 random:8 urandom:9; do
    mknod -m 666 "/dev/${device%:*}" c 1 "${device#*:}"
done

# Users that programs look for. Everything runs as root.
echo 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
echo 'nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin' >>/etc/passwd
echo 'root:x:0:' >/etc/group
echo 'nogroup:x:65534:' >>/etc/group
mkdir -p /root
echo '127.0.0.1 localhost' >/etc/hosts

# Programs still look for what is in /run here.
rm -r /var/run /var/lock
ln -s /run /var/run
ln -s /run/lock /var/lock

# Debian's alternatives.
ln -s mawk /usr/bin/awk
for family in iptables ip6tables; do
    for program in "" -save -restore; do
        ln -s "$family-nft$program" "/usr/sbin/$family$program"
    done
done
cp /usr/share/neutron-common/api-paste.ini /etc/neutron/

# A program that starts does not have to compile what it imports.
python3 -m compileall -q -j 0 -x '/tests?/' /usr/lib/python3.11 /usr/lib/python3/dist-packages

# A server that starts does not have to migrate its database.
options="--no-defaults --user=root --datadir=/tmp/mysql --innodb-log-file-size=8M"
mariadb-install-db $options --skip-test-db --auth-root-authentication-method=normal
mariadbd $options --socket=/tmp/mysql.sock --skip-networking --innodb-flush-log-at-trx-commit=0 &
sql() { mariadb --no-defaults --user=root --socket=/tmp/mysql.sock --execute "$1"; }
until sql 'select 1' >/dev/null 2>&1; do sleep 0.1; done
sql 'create database neutron character set utf8mb4'
cat >/tmp/neutron.conf <<END
[DEFAULT]
core_plugin = ml2
[database]
connection = mysql+pymysql://root@localhost/neutron?unix_socket=/tmp/mysql.sock&charset=utf8mb4
END
neutron-db-manage --config-file /tmp/neutron.conf upgrade heads
sql shutdown
wait
mkdir -p /var/lib/overlane
cp -r /tmp/mysql /var/lib/overlane/
