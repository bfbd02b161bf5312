# What Net::HTTP and Faraday see; see seen.py.
require "net/http"
require "faraday"

BODY = '{"event": "paid"}'

def answer(status, headers, body)
  fields = ["X-WhSentry-ReasonCode", "X-WhSentry-Delivered", "X-WhSentry-Retry"].map { |name| headers[name] }
  return [status, *fields].join(" ") if fields[0]
  length = (headers["Content-Length"] || body.bytesize).to_i
  body.bytesize == length ? status.to_s : "#{status}, #{body.bytesize} bytes of #{length}"
end

def with_net_http(proxy, url, headers)
  uri, proxy = URI(url), URI(proxy)
  http = Net::HTTP.new(uri.host, uri.port, proxy.host, proxy.port, proxy.user, proxy.password)
  http.use_ssl = uri.scheme == "https"
  response = http.start { |connection| connection.post(uri.request_uri, BODY, headers) }
  answer(response.code, response, response.body)
end

def with_faraday(proxy, url, headers)
  response = Faraday.new(proxy: proxy).post(url, BODY, headers)
  answer(response.status, response.headers, response.body)
end

# described is an error, with the answer that it carries, and that of the error that it was made of.
def described(e)
  carried = e.respond_to?(:response) && e.response.respond_to?(:code) ? " [#{answer(e.response.code, e.response, "")}]" : ""
  "#{e.class}: #{e.message}#{carried}" + (e.cause ? " < #{described(e.cause)}" : "")
end

{"Net::HTTP" => [RUBY_VERSION, method(:with_net_http)], "Faraday" => [Faraday::VERSION, method(:with_faraday)]}.each do |client, (version, send)|
  File.foreach(ARGV[0], chomp: true) do |line|
    way, what, proxy, url = line.split("\t")
    next if way == "CONNECT, http" || what == "certificate"
    seen = begin
      send.call(proxy, url.sub("CLIENT", client.gsub(/\W+/, "-")), way == "X-WhSentry-TLS" ? {"X-WhSentry-TLS" => "true"} : {})
    rescue => e
      described(e)
    end
    puts [client, version, way, what, seen.split.join(" ")].join("\t")
  end
end
