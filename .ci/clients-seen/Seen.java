// What HttpClient and HttpURLConnection of the JDK see; see seen.py. An Authenticator gives them the name and token,
// but for HttpClient with a Bearer token, where it is a field of the request. `Seen CASES [SWITCHES]`: which of its switches were thrown, for their names.
import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.UnaryOperator;

class Seen {
  static final byte[] BODY = "{\"event\": \"paid\"}".getBytes(StandardCharsets.UTF_8);

  interface Client {
    String send(URI proxy, String url, boolean tlsByProxy) throws Exception;
  }

  static String answer(int status, UnaryOperator<String> field, byte[] body) {
    if (field.apply("X-WhSentry-ReasonCode") == null) {
      String length = field.apply("Content-Length");
      return body.length == Integer.parseInt(length) ? "" + status : status + ", " + body.length + " bytes of " + length;
    }
    return status + " " + field.apply("X-WhSentry-ReasonCode") + " " + field.apply("X-WhSentry-Delivered") + " " + field.apply("X-WhSentry-Retry");
  }

  static Authenticator login(URI proxy) {
    String[] user = proxy.getUserInfo().split(":");
    return new Authenticator() {
      @Override protected PasswordAuthentication getPasswordAuthentication() {
        return getRequestorType() == RequestorType.PROXY ? new PasswordAuthentication(user[0], user[1].toCharArray()) : null;
      }
    };
  }

  static String withHttpClient(URI proxy, String url, boolean tlsByProxy) throws Exception {
    return send(proxy, url, tlsByProxy, proxy.getUserInfo() == null ? null : login(proxy), null);
  }

  static String withBearer(URI proxy, String url, boolean tlsByProxy) throws Exception {
    return send(proxy, url, tlsByProxy, null, proxy.getUserInfo() == null ? null : proxy.getUserInfo().split(":")[1]);
  }

  static String send(URI proxy, String url, boolean tlsByProxy, Authenticator login, String bearer) throws Exception {
    var builder = HttpClient.newBuilder().proxy(ProxySelector.of(new InetSocketAddress(proxy.getHost(), proxy.getPort())));
    if (login != null) builder.authenticator(login);
    var request = HttpRequest.newBuilder(URI.create(url)).POST(HttpRequest.BodyPublishers.ofByteArray(BODY));
    if (bearer != null) request.header("Proxy-Authorization", "Bearer " + bearer);
    if (tlsByProxy) request.header("X-WhSentry-TLS", "true");
    var response = builder.build().send(request.build(), BodyHandlers.ofByteArray());
    return answer(response.statusCode(), name -> response.headers().firstValue(name).orElse(null), response.body());
  }

  static String withHttpURLConnection(URI proxy, String url, boolean tlsByProxy) throws Exception {
    var through = new Proxy(Proxy.Type.HTTP, new InetSocketAddress(proxy.getHost(), proxy.getPort()));
    var connection = (HttpURLConnection) URI.create(url).toURL().openConnection(through);
    if (proxy.getUserInfo() != null) connection.setAuthenticator(login(proxy));
    connection.setRequestMethod("POST");
    connection.setDoOutput(true);
    if (tlsByProxy) connection.setRequestProperty("X-WhSentry-TLS", "true");
    try (var out = connection.getOutputStream()) {
      out.write(BODY);
    }
    int status = connection.getResponseCode();
    try (var in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
      return answer(status, connection::getHeaderField, in == null ? new byte[0] : in.readAllBytes());
    }
  }

  static void run(String name, Client client, String cases) throws Exception {
    for (String line : Files.readAllLines(Path.of(cases))) {
      String[] f = line.split("\t");
      if (f[0].equals("CONNECT, http") || f[1].equals("certificate")) continue;
      String seen;
      try {
        seen = client.send(URI.create(f[2]), f[3].replace("CLIENT", name.replaceAll("\\W+", "-")), f[0].equals("X-WhSentry-TLS"));
      } catch (Exception e) {
        seen = e.getClass().getSimpleName() + ": " + e.getMessage();
      }
      System.out.println(String.join("\t", name, System.getProperty("java.version"), f[0], f[1], seen.replaceAll("\\s+", " ")));
    }
  }

  public static void main(String[] args) throws Exception {
    String with = args.length > 1 ? " with " + args[1] : "";
    run("HttpClient" + with, Seen::withHttpClient, args[0]);
    if (args.length == 1) run("HttpClient with Bearer", Seen::withBearer, args[0]);
    run("HttpURLConnection" + with, Seen::withHttpURLConnection, args[0]);
  }
}
