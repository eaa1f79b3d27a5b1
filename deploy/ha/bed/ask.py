"""Questions to the parts, each with a deadline: HTTP, Redis, whether a port is taken."""
import http.client
import json
import socket

PATIENCE = 3.0


def http_get(port, path, method='GET', body=None, timeout=PATIENCE):
    """(status, text); (0, reason) if nobody answered."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=timeout)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read().decode('utf-8', 'replace')
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__
    finally:
        connection.close()


def http_json(port, path, method='GET', body=None):
    """(status, object); an empty one if the answer is none."""
    status, text = http_get(port, path, method, body)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, {}


def listens(port):
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        return sock.connect_ex(('127.0.0.1', port)) == 0


class RedisError(Exception):
    pass


def redis(port, *command, password=''):
    """The answer to one command, lists as lists; RedisError if there is none."""
    try:
        with socket.create_connection(('127.0.0.1', port), timeout=PATIENCE) as sock, sock.makefile('rwb') as stream:
            if password:
                _command(stream, 'AUTH', password)
            return _command(stream, *command)
    except (OSError, ValueError) as error:
        raise RedisError(str(error) or type(error).__name__) from error


def _command(stream, *words):
    stream.write(b'*%d\r\n' % len(words))
    for word in words:
        data = word.encode()
        stream.write(b'$%d\r\n%s\r\n' % (len(data), data))
    stream.flush()
    return _reply(stream)


def _reply(stream):
    line = stream.readline().rstrip(b'\r\n').decode('utf-8', 'replace')
    kind, rest = line[:1], line[1:]
    if kind == '-':
        raise RedisError(rest)
    if kind == '$':
        return stream.read(int(rest) + 2)[:-2].decode('utf-8', 'replace') if int(rest) >= 0 else None
    if kind == '*':
        return [_reply(stream) for _ in range(int(rest))]
    if kind == '':
        raise RedisError('the connection was closed')
    return rest


def redis_info(port, section, password=''):
    lines = redis(port, 'INFO', section, password=password).splitlines()
    return dict(line.split(':', 1) for line in lines if ':' in line)
